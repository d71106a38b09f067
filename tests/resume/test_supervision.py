"""The launcher at work: lost and stuck jobs go on by themselves, requests are honoured in every phase, and nothing hangs."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.chaos.hangs import WAYS, one
from tests.support.jobs import (
    catches,
    environment,
    events,
    hurry,
    ostinato,
    pid_of,
    rows,
    slow_images,
    start,
    wait_for_step,
    weights,
)
from trainer.checkpoint import store
from trainer.rundir import RunDir, read_json

CONFIG = """
model: {{target: "tests.support.faulty:FaultyNet"{fault}}}
data:
  train: {{target: "tests.support.noisy:NoisyImages"}}
  valid: {{target: "tests.support.noisy:{valid}}}
  batch_size: 24
  eval_batch_size: 4
optimizer: {{target: sgd, lr: 0.05, momentum: 0.9}}
train: {{epochs: 3, virtual_ranks: 4}}
checkpoint: {{every_steps: 4}}
hardware: {{device: cpu, threads: 1}}
log: {{every_steps: 1, tensorboard: false}}
"""
QUICK_VALID, SLOW_VALID = 'NoisyImages", size: 20', 'SlowImages", seconds: 0.5, size: 60, until: hurry'


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "c.yaml").write_text(CONFIG.format(fault="", valid=QUICK_VALID))
    return tmp_path


def reference(folder: Path) -> RunDir:
    done = ostinato(folder, "train", "c.yaml", "run.name=reference")
    assert done.returncode == 0, done.stderr
    return RunDir(folder / "runs" / "reference")


def same(run: RunDir, whole: RunDir) -> bool:
    return weights(run) == weights(whole) and rows(run) == rows(whole)


def test_a_job_whose_worker_is_killed_goes_on_by_itself_to_the_same_bits(config: Path) -> None:
    run = RunDir(config / "runs" / "c")
    process = start(config, "train", "c.yaml", slow_images(free=60), "--nproc-per-node", "4")  # six images a step
    wait_for_step(run, 6, process)
    psutil.Process(pid_of(run, 1)).kill()
    hurry(config)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert [event["exit_code"] for event in events(run, "restarted")] == [5]
    assert "rank 1 was killed by SIGKILL" in err
    assert "starting again, from step-" in err
    assert same(run, reference(config))


def test_a_job_that_is_lost_at_the_same_place_each_time_goes_on_with_fewer_workers_and_ends(config: Path) -> None:
    (config / "c.yaml").write_text(CONFIG.format(fault=", fault: kill, rank: 0, call: 2", valid=QUICK_VALID))
    done = ostinato(config, "train", "c.yaml", "--nproc-per-node", "4", "supervision.max_restarts=3")
    run = RunDir(config / "runs" / "c")
    assert done.returncode == 5
    assert [event["workers"] for event in events(run, "started")] == [4, 4, 2, 1]
    assert len(events(run, "failed")) == 1
    assert "Traceback" not in done.stderr


def test_a_mistake_in_the_users_code_is_not_tried_again(config: Path) -> None:
    (config / "c.yaml").write_text(CONFIG.format(fault=", fault: exception, rank: 0", valid=QUICK_VALID))
    done = ostinato(config, "train", "c.yaml", "--nproc-per-node", "2")
    assert done.returncode == 4
    assert events(RunDir(config / "runs" / "c"), "restarted") == []
    assert len(done.stderr.splitlines()) <= 10


@pytest.mark.parametrize("way", WAYS)
def test_a_job_that_hangs_is_reported_with_rank_and_line_and_goes_on_to_the_same_bits(tmp_path: Path, way: str) -> None:
    fault, _ = one(tmp_path, way, rank=1, call=6)
    assert fault == ""


def test_a_request_during_an_evaluation_leaves_it_and_the_evaluation_is_made_anew(config: Path) -> None:
    (config / "c.yaml").write_text(CONFIG.format(fault="", valid=SLOW_VALID))
    run = RunDir(config / "runs" / "c")
    process = start(config, "train", "c.yaml", "--nproc-per-node", "2")
    wait_for_step(run, 8, process)
    while read_json(run.heartbeat(0))["phase"] != "evaluate":
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75, err
    assert not [row for row in rows(run) if row["split"] == "valid"]
    state = store.load(run.checkpoints / store.names(run.checkpoints)[-1])
    assert (state["step"], state["epoch"], state["epoch_step"]) == (8, 0, 8)
    hurry(config)
    done = ostinato(config, "train", "c.yaml", "--nproc-per-node", "1")
    assert done.returncode == 0, done.stderr
    assert same(run, reference(config))


def test_a_job_that_computes_the_statistics_of_its_average_from_slow_data_is_not_taken_for_stuck(config: Path) -> None:
    slow = ("data.train={target: 'tests.support.noisy:SlowImages', seconds: 0.1, size: 80}", "data.batch_size=8", "data.eval_batch_size=8")
    short = ("train.epochs=1", "train.swa={start_epoch: 0}", "supervision.stuck_after_s=7", "supervision.max_restarts=0")
    done = ostinato(config, "train", "c.yaml", *slow, *short)  # eight seconds of training, and eight of reading the same data again
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("pause", [0.0, 0.4, 0.9, 1.4, 2.0])
def test_a_request_during_the_start_ends_with_75_and_the_same_command_starts(config: Path, pause: float) -> None:
    command = ("train", "c.yaml", slow_images(free=0), "--nproc-per-node", "2")
    process = start(config, *command)
    while not catches(process.pid, signal.SIGTERM):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    time.sleep(pause)
    process.send_signal(signal.SIGTERM)
    hurry(config)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75, err
    assert ostinato(config, *command).returncode == 0


def test_workers_that_do_not_leave_within_the_grace_period_are_ended(config: Path) -> None:
    (config / "c.yaml").write_text(CONFIG.format(fault=", fault: loop, rank: 1, call: 7", valid=QUICK_VALID))
    run = RunDir(config / "runs" / "c")
    process = start(config, "train", "c.yaml", "--nproc-per-node", "2", "supervision.grace_s=3")
    wait_for_step(run, 3, process)
    began = time.monotonic()
    process.send_signal(signal.SIGUSR1)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 75, err
    assert time.monotonic() - began < 25  # the grace that a job has by itself is 30 s
    assert "supervision.grace_s" in out
    assert store.pointed(run.checkpoints, "last") is None


def test_a_start_waits_for_an_orphan_of_an_earlier_one_and_names_it(config: Path) -> None:
    assert ostinato(config, "train", "c.yaml", "train.max_steps=4").returncode == 0
    run = RunDir(config / "runs" / "c")
    with open(run.fence) as orphan:
        fcntl.flock(orphan, fcntl.LOCK_SH)
        done = ostinato(config, "train", "c.yaml", "train.max_steps=4", "--fresh")
    assert done.returncode == 2
    assert f"workers of an earlier start still run (process {os.getpid()})" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.fixture
def memory_group() -> Iterator[Path]:
    """A control group with a memory limit, of whichever kind this system has."""
    for root, limit in ((Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"), (Path("/sys/fs/cgroup"), "memory.max")):
        group = root / f"ostinato-test-{os.getpid()}"
        try:
            group.mkdir()
            (group / limit).write_text(str(2500 << 20))
        except OSError:
            with suppress(OSError):
                group.rmdir()
            continue
        yield group
        for _ in range(100):  # what was killed in it takes a moment to be gone
            with suppress(OSError):
                group.rmdir()
                return
            time.sleep(0.1)
    pytest.skip("no control group with a memory limit can be made here")


def test_a_worker_that_the_kernel_kills_for_want_of_memory_is_told_as_such(config: Path, memory_group: Path) -> None:
    (config / "c.yaml").write_text(CONFIG.format(fault=", fault: eat-memory, rank: 1", valid=QUICK_VALID))
    done = subprocess.run(
        [
            "sh",
            "-c",
            f"echo $$ > {memory_group}/cgroup.procs; exec {sys.executable} -m launcher train c.yaml --nproc-per-node 2 "
            "supervision.max_restarts=0",
        ],
        cwd=config,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 5
    assert done.stderr.startswith("rank 1 was killed by the kernel: out of memory")


def test_nobody_beyond_this_machine_can_reach_a_job(config: Path) -> None:
    run = RunDir(config / "runs" / "c")
    process = start(config, "train", "c.yaml", "train.epochs=300", "--nproc-per-node", "4")
    wait_for_step(run, 2, process)
    launcher = psutil.Process(process.pid)
    found = [
        c.laddr.ip
        for p in (launcher, *launcher.children(recursive=True))
        for c in p.net_connections("inet")
        if c.status == psutil.CONN_LISTEN
    ]
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert len(found) >= 4  # gloo's, one a worker
    assert set(found) <= {"127.0.0.1", "::1"}


ABORTING = """
import os
from tests.support.noisy import NoisyImages

class Images(NoisyImages):
    def __init__(self, error=""):
        super().__init__()
        if os.environ.get("RANK") == "1":
            {fault}
"""


def with_fault(folder: Path, fault: str) -> tuple[str, ...]:
    """A data set of the user's that breaks on one rank while the job starts."""
    (folder / "mine.py").write_text(ABORTING.format(fault=fault))
    return ("train", "c.yaml", 'data.train={target: "mine:Images"}', "--nproc-per-node", "2", "supervision.max_restarts=0")


def test_an_abort_during_the_start_is_a_failure_and_no_stop(config: Path) -> None:
    done = ostinato(config, *with_fault(config, "os.abort()"))
    assert done.returncode == 5
    assert done.stderr.startswith("rank 1 was killed by SIGABRT")


def test_a_users_broken_connection_is_the_users_error_and_no_lost_peer(config: Path) -> None:
    done = ostinato(config, *with_fault(config, 'raise RuntimeError("Connection reset by peer")'))
    assert done.returncode == 4
    assert "mine.py:9" in done.stderr


def fork_server(process: subprocess.Popen[str]) -> psutil.Process:
    """The process that the workers are forked from."""
    while process.poll() is None:
        for child in psutil.Process(process.pid).children():
            with suppress(psutil.Error):
                if "forkserver" in " ".join(child.cmdline()):
                    return child
        time.sleep(0.005)
    raise AssertionError("there was none")


@pytest.mark.parametrize("step", [0, 6])
def test_a_job_whose_fork_server_is_killed_goes_on_by_itself(config: Path, step: int) -> None:
    run = RunDir(config / "runs" / "c")
    process = start(config, "train", "c.yaml", slow_images(free=120), "--nproc-per-node", "2")  # twelve images a step
    server = fork_server(process)
    if step:
        wait_for_step(run, step, process)
    else:
        while not run.config.exists():  # the workers are being started
            time.sleep(0.005)
    server.kill()
    hurry(config)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert len(events(run, "restarted")) == 1 or not step  # before the first worker a new one is simply made
    assert same(run, reference(config))


def test_a_reader_that_goes_away_does_not_stop_training(config: Path) -> None:
    command = f"{sys.executable} -m launcher train c.yaml --nproc-per-node 2 | head -n 1"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        cwd=config,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.count("\n") == 1
    assert same(RunDir(config / "runs" / "c"), reference(config))


def test_a_terminal_that_is_closed_means_a_stop_with_a_checkpoint(config: Path) -> None:
    ours, theirs = os.openpty()
    run = RunDir(config / "runs" / "c")
    process = subprocess.Popen(
        ["setsid", "--ctty", "--wait", sys.executable, "-m", "launcher", "train", "c.yaml", "train.epochs=200", "--nproc-per-node", "2"],
        cwd=config,
        env=environment(),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    wait_for_step(run, 6, process)  # type: ignore[arg-type]
    os.close(ours)
    assert process.wait(timeout=60) == 75
    assert len(events(run, "stopped")) == 1


def test_a_request_in_an_evaluation_that_is_slower_than_training_is_heard_after_a_batch(config: Path) -> None:
    (config / "c.yaml").write_text(CONFIG.format(fault="", valid='SlowImages", seconds: 0.2, size: 200'))
    run = RunDir(config / "runs" / "c")
    process = start(config, "train", "c.yaml", "--nproc-per-node", "2", "data.batch_size=4", "supervision.grace_s=8")
    wait_for_step(run, 50, process)  # short steps: the question is not asked in each
    while read_json(run.heartbeat(0))["phase"] != "evaluate":
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 75, err
    assert "supervision.grace_s" not in out
    assert len(events(run, "stopped")) == 1


def test_a_disk_that_stays_full_is_told_and_ends_the_run(config: Path) -> None:
    (config / "runs").mkdir()
    fill = "(while [ ! -d runs/c/checkpoints/step-00000004 ]; do sleep 0.02; done; cat /dev/zero > runs/filler) 2>/dev/null &"
    command = f"{sys.executable} -m launcher train c.yaml train.epochs=200 --nproc-per-node 2"
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", f"mount -t tmpfs -o size=3m none runs && {fill} {command}; code=$?; kill $! 2>/dev/null; exit $code"],
        cwd=config,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 5, done.stderr
    assert "No space left" in done.stderr
    assert "starting again" not in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 10
