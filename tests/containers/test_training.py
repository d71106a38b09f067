"""Training in real containers: as strict as a cluster's, alone and together, stopped and gone on with; always the same bits."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.containers import HARD, Engine
from tests.support.jobs import DIGITS, ROOT, SHORT, catches, events, hurry, ostinato, rows, weights
from trainer.environment import changes
from trainer.rundir import RunDir, read_json, read_jsonl

pytestmark = pytest.mark.timeout(1800)

TRAIN = ("train", "configs/digits.yaml", *SHORT, "train.virtual_ranks=2", "hardware.threads=1")
# The digits of a user's own module, which are slow after some steps: so a run is met in its midst, however fast the machine is.
SLOW = 'data.train={target: "slow:SlowDigits", seconds: 0.5, free: 20, until: runs/hurry}'
WITH_SLOW = (*HARD, "-v", f"{ROOT}/tests/support/slow.py:/work/slow.py:ro")
TWO = ("--nproc-per-node", "2")
TOGETHER = ("--nnodes", "2", "--rdzv-endpoint", "node0:29400", "--nproc-per-node", "1")
# Longer than any test, with a checkpoint only where one is asked for.
LONG = ("train", "configs/digits.yaml", "train.epochs=5000", "checkpoint.every_steps=100000", "log.every_steps=1")
# Any process may end while it is looked at.
FORK_SERVERS = """
import contextlib, psutil
for process in psutil.process_iter():
    with contextlib.suppress(psutil.Error):
        if process.ppid() == 1 and process.status() != "zombie" and "forkserver" in " ".join(process.cmdline()):
            process.kill()
"""
PIDS = "import psutil; print(*(process.pid for process in psutil.process_iter(['ppid']) if process.info['ppid'] != 0))"


@pytest.fixture(scope="module")
def whole(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """An uninterrupted run of two workers in one container without a network."""
    folder = tmp_path_factory.mktemp("whole")
    folder.chmod(0o777)
    assert engine.end(engine.start("whole", folder, *TRAIN, *TWO)) == 0
    return RunDir(folder / "digits")


@pytest.fixture
def network(engine: Engine) -> Iterator[str]:
    """A network that has no way out."""
    name = "ostinato-test"
    engine.run("network", "create", "--internal", "--subnet", "198.18.90.0/24", name)
    yield name
    engine.run("rm", "-fa", "-t", "0", check=False)
    engine.run("network", "rm", "-f", name)


def step_of(run: RunDir) -> int:
    """The step that the run has reached, by its metrics."""
    return max((int(row["step"]) for row in read_jsonl(run.metrics)), default=0) if run.metrics.exists() else 0


def test_a_container_computes_what_this_machine_computes(engine: Engine, whole: RunDir, tmp_path: Path) -> None:
    done = ostinato(tmp_path, "train", str(DIGITS), *TRAIN[2:], *TWO)
    assert done.returncode == 0, done.stderr
    here = RunDir(tmp_path / "runs" / "digits")
    if changes(read_json(here.environment)[-1], read_json(whole.environment)[-1]):  # another Python here: then two containers
        (tmp_path / "again").mkdir(mode=0o777)
        (tmp_path / "again").chmod(0o777)
        assert engine.end(engine.start("again", tmp_path / "again", *TRAIN, *TWO)) == 0
        here = RunDir(tmp_path / "again" / "digits")
    assert weights(whole) == weights(here)
    assert rows(whole) == rows(here)


def test_its_files_belong_to_the_image_s_user_who_is_not_root(whole: RunDir) -> None:
    assert {path.stat().st_uid for path in whole.path.rglob("*")} == {1000}


def test_any_other_user_will_do(engine: Engine, runs: Path) -> None:
    runs.chmod(0o777)
    name = engine.start("stranger", runs, *TRAIN, "train.epochs=1", options=(*HARD, "--user", "4242:4243"))
    assert engine.end(name) == 0
    assert (runs / "digits" / "config.yaml").stat().st_uid == 4242


def test_a_run_that_has_nowhere_to_be_is_refused(engine: Engine) -> None:
    done = engine.run("run", "--rm", "--network", "none", *HARD, "ostinato:cpu", *TRAIN, check=False)
    assert done.returncode == 2
    assert done.stderr.strip() == "ostinato: runs/digits: cannot be written (Read-only file system); set run.root to a folder of yours"


def test_stopped_as_process_1_it_leaves_a_checkpoint_and_the_same_command_goes_on(engine: Engine, whole: RunDir, runs: Path) -> None:
    command = (*TRAIN, "checkpoint.every_steps=1000", "supervision.grace_s=60", SLOW, *TWO)
    run = RunDir(runs / "digits")
    name = engine.start("stopped", runs, *command, options=WITH_SLOW)
    engine.wait_until(lambda: step_of(run) >= 7, name)
    engine.run("stop", "-t", "60", name)
    hurry(runs)
    assert engine.end(name) == 75
    stopped = events(run, "stopped")[0]["step"]
    assert engine.end(engine.start("goes-on", runs, *command, options=WITH_SLOW)) == 0
    assert int(events(run, "resumed")[0]["checkpoint"][5:13]) == stopped
    assert weights(run) == weights(whole)
    assert rows(run) == rows(whole)


def test_a_stop_in_the_first_moment_is_heard(engine: Engine, runs: Path) -> None:
    name = engine.start("early", runs, *LONG)
    pid = engine.inspect(name)["State"]["Pid"]
    engine.wait_until(lambda: catches(pid, signal.SIGTERM), name)
    began = time.monotonic()
    engine.run("stop", "-t", "60", name)
    assert time.monotonic() - began < 50, "it was killed"
    assert engine.end(name) == 75


def test_killed_with_its_container_a_run_goes_on_from_its_last_checkpoint(engine: Engine, whole: RunDir, runs: Path) -> None:
    run = RunDir(runs / "digits")
    command = (*TRAIN, SLOW, *TWO)
    name = engine.start("killed", runs, *command, options=WITH_SLOW)
    engine.wait_until(lambda: step_of(run) >= 12, name)
    engine.run("kill", "-s", "KILL", name)
    hurry(runs)
    assert engine.end(name) == 137
    assert engine.end(engine.start("after", runs, *command, options=WITH_SLOW)) == 0
    assert len(events(run, "resumed")) == 1
    assert weights(run) == weights(whole)


def test_workers_that_fall_are_started_again_and_what_is_left_of_them_is_buried(engine: Engine, runs: Path) -> None:
    run = RunDir(runs / "digits")
    name = engine.start("restarted", runs, *LONG, "data.loader_workers=1", *TWO)
    engine.wait_until(lambda: step_of(run) >= 3, name)
    first = set(engine.python(name, PIDS).split())
    for restart in (1, 2):
        engine.python(name, FORK_SERVERS)
        engine.wait_until(lambda: (beat := read_json(run.heartbeat(0)))["attempt"] == restart and beat["begun"], name)  # noqa: B023
    left = first & set(engine.python(name, PIDS).split())
    assert len(left) <= 1, "only multiprocessing's tracker, which lives as long as the launcher"
    engine.run("stop", "-t", "60", name)
    assert engine.end(name) == 75


def test_two_containers_train_together_as_one_with_two_workers_does(engine: Engine, whole: RunDir, runs: Path, network: str) -> None:
    nodes = [engine.start(f"node{rank}", runs, *TRAIN, *TOGETHER, "--node-rank", str(rank), network=network) for rank in (0, 1)]
    assert [engine.end(node) for node in nodes] == [0, 0]
    run = RunDir(runs / "digits")
    assert weights(run) == weights(whole)
    assert rows(run) == rows(whole)


def test_two_containers_of_which_one_is_stopped_both_leave_and_go_on_together(
    engine: Engine, whole: RunDir, runs: Path, network: str
) -> None:
    run = RunDir(runs / "digits")
    command = (*TRAIN, "checkpoint.every_steps=1000", "supervision.grace_s=60", SLOW, *TOGETHER)

    def started() -> list[str]:
        return [
            engine.start(f"node{rank}", runs, *command, "--node-rank", str(rank), network=network, options=WITH_SLOW) for rank in (0, 1)
        ]

    nodes = started()
    engine.wait_until(lambda: step_of(run) >= 7, nodes[0])
    engine.run("stop", "-t", "60", nodes[1])
    hurry(runs)
    assert [engine.end(node) for node in nodes] == [75, 75]
    nodes = started()
    assert [engine.end(node) for node in nodes] == [0, 0]
    assert weights(run) == weights(whole)
    assert rows(run) == rows(whole)
