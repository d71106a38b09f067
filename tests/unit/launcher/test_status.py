"""A run's line says what its folder, its lock and Slurm say, and a folder that cannot be read is a line as well."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from launcher.slurm_query import Answer, SlurmJob
from launcher.standing import judge, lock_of, read
from launcher.status import ago, status
from launcher.tail import newest_rows
from tests.support.jobs import environment
from trainer.errors import BAD_CONFIG, DONE, RunFolderError
from trainer.locks import RunLock
from trainer.rundir import RunDir, append_jsonl, write_json

CONFIG = "data: {batch_size: 64, drop_last: true}\ntrain: {epochs: 3, max_steps: null}\n"
HERE = os.uname().nodename


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A run that was created and nothing more."""
    return make(tmp_path / "runs" / "one")


def make(path: Path) -> RunDir:
    found = RunDir(path)
    found.create()
    found.config.write_text(CONFIG)
    found.event("created", config="x.yaml", overrides=[])
    return found


def submit(run: RunDir, job_id: str = "12") -> None:
    run.slurm.mkdir(exist_ok=True)
    append_jsonl(run.submissions, {"time": time.time(), "job_id": job_id, "nodes": 2, "partition": "main"})
    run.event("submitted", job_id=job_id)


def beat(run: RunDir, age_s: float, **more: Any) -> None:
    now = time.time() - age_s
    write_json(run.heartbeat(0), {"rank": 0, "time": now, "monotonic": 100.0, "moved": 98.0, "step": 30, "epoch": 1, **more})


def train(run: RunDir) -> None:
    run.event("started", attempt=0, workers=2, checkpoint=None)
    run.event("checkpointed", attempt=0, step=19, checkpoint="step-00000019")


def row(run: RunDir, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    status([str(run.path)], root="runs", as_json=True)
    (found,) = json.loads(capsys.readouterr().out)
    return dict(found)


def state(run: RunDir, job: SlurmJob | None = None, *, asked: bool = True, warning: str | None = None) -> tuple[str, str]:
    found = judge(read(run), Answer({} if job is None else {job.job_id: job}, asked, warning), time.time())
    return found.state, found.detail


def test_a_run_is_what_its_last_event_says_while_nobody_runs_it(run: RunDir) -> None:
    assert state(run) == ("created", "")
    train(run)
    assert state(run) == ("lost", "nobody runs it")
    run.event("stopped", attempt=0, step=20, signal="SIGTERM")
    assert state(run) == ("stopped", "")
    run.event("resumed", attempt=1, workers=2, checkpoint="step-00000019")
    run.event("failed", attempt=1, exit_code=4, reason="a loss is NaN")
    assert state(run) == ("failed", "exit 4")
    run.event("finished", attempt=2, step=57)
    assert state(run) == ("finished", "")


@pytest.mark.parametrize("late", ["environment-changed", "stop-requested"])
def test_an_event_that_comes_late_from_elsewhere_changes_nothing(run: RunDir, late: str) -> None:
    run.event("finished", attempt=0, step=57)
    run.event(late)
    assert state(run) == ("finished", "")
    assert run.finished()


def test_a_held_lock_means_running_and_looking_at_it_disturbs_nobody(run: RunDir) -> None:
    assert lock_of(run.lock) == (False, read(run).named)
    assert not run.lock.exists()
    lock = RunLock(run.lock)
    train(run)
    assert state(run) == ("running", "")
    held, holder = lock_of(run.lock)
    assert (held, holder.pid, holder.host, holder.here) == (True, os.getpid(), HERE, True)
    with pytest.raises(RunFolderError, match="in use by process"):
        RunLock(run.lock)
    lock.release()
    assert state(run) == ("lost", "nobody runs it")
    assert lock_of(run.lock)[0] is False
    RunLock(run.lock).release()


def test_a_run_that_was_asked_to_stop_says_so_until_it_has(run: RunDir) -> None:
    lock = RunLock(run.lock)
    train(run)
    run.event("stop-requested", by="user", job_id=None)
    assert state(run) == ("running", "asked to stop")
    lock.release()
    assert state(run) == ("stopped", "without a checkpoint of its own")
    run.event("stopped", attempt=0, step=20, signal="SIGTERM")
    assert state(run) == ("stopped", "")
    run.event("resumed", attempt=1, workers=2, checkpoint="step-00000020")
    assert state(run) == ("lost", "nobody runs it")


def test_on_another_machine_the_heartbeats_age_decides(run: RunDir) -> None:
    train(run)
    run.lock.write_text("process 41 on elsewhere\n")
    beat(run, 3)
    assert state(run) == ("running", "")
    beat(run, 3600)
    assert state(run) == ("lost", "nobody runs it")
    run.lock.write_text(f"process 41 on {HERE}\n")
    beat(run, 3)
    assert state(run) == ("lost", "nobody runs it")  # here the lock is the truth


def test_a_job_in_the_queue_waits_and_says_why(run: RunDir) -> None:
    submit(run)
    assert state(run, SlurmJob("12", "PENDING", "Priority")) == ("waiting", "Priority")
    train(run)
    run.event("requeued", job_id="12", attempt=0, checkpoint="step-00000019", reason="preempted")
    assert state(run, SlurmJob("12", "PENDING", "BeginTime")) == ("waiting", "BeginTime")
    assert state(run, SlurmJob("12", "REQUEUE_HOLD")) == ("waiting", "requeue_hold")


def test_a_job_with_nodes_runs(run: RunDir) -> None:
    submit(run)
    assert state(run, SlurmJob("12", "CONFIGURING")) == ("running", "configuring")
    assert state(run, SlurmJob("12", "RUNNING")) == ("running", "starting")
    train(run)
    assert state(run, SlurmJob("12", "RUNNING")) == ("running", "")
    run.event("stopped", attempt=0, step=20, signal="SIGTERM")
    assert state(run, SlurmJob("12", "COMPLETING")) == ("running", "completing")  # it may be on its way back to the queue
    assert state(run, SlurmJob("12", "COMPLETED")) == ("stopped", "")


def test_a_job_that_has_left_the_queue_without_an_end_is_lost(run: RunDir) -> None:
    submit(run)
    assert state(run, SlurmJob("12", "FAILED")) == ("lost", "Slurm: FAILED")
    assert state(run) == ("lost", "Slurm does not know job 12 any more")
    assert state(run, SlurmJob("12", "CANCELLED")) == ("stopped", "before it began")
    train(run)
    assert state(run, SlurmJob("12", "NODE_FAIL")) == ("lost", "Slurm: NODE_FAIL")
    assert state(run) == ("lost", "nobody runs it")


def test_without_an_answer_of_slurm_the_folder_alone_speaks(run: RunDir) -> None:
    submit(run)
    assert state(run, asked=False) == ("waiting", "Slurm cannot be asked from here")
    assert state(run, asked=False, warning="no answer") == ("waiting", "Slurm does not answer")
    run.event("stop-requested", by="user", job_id="12")
    assert state(run, asked=False) == ("stopped", "before it began")


def test_the_newest_submission_counts(run: RunDir) -> None:
    submit(run, "12")
    submit(run, "13_4")
    assert read(run).job_id == "13_4"


def test_the_line_tells_steps_epochs_figures_checkpoint_and_starts(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    for epoch in (1, 2):
        for split, more in (("train", {}), ("epoch", {}), ("valid", {"loss": 1 / epoch, "accuracy": epoch / 4}), ("weights", {})):
            append_jsonl(run.metrics, {"time": 1.0, "attempt": 0, "step": 19 * epoch, "epoch": epoch, "split": split, **more})
    train(run)
    run.event("restarted", attempt=0, exit_code=5, reason="killed")
    run.event("resumed", attempt=1, workers=2, checkpoint="step-00000019")
    for name in ("step-00000019", "step-00000038", ".partial-step-00000057", "bad-step-00000057"):
        (run.checkpoints / name).mkdir()
    run.event("stopped", attempt=1, step=40, signal="SIGTERM")
    found = row(run, capsys)
    assert (found["name"], found["state"], found["step"], found["of"], found["epoch"], found["epochs"]) == ("one", "stopped", 40, 57, 2, 3)
    assert (found["starts"], found["restarts"], found["checkpoint"]) == (2, 1, "step-00000038")
    assert found["valid"] == {"step": 38, "epoch": 2, "loss": 0.5, "accuracy": 0.5}
    assert status([str(run.path)], root="runs") == DONE
    head, line = capsys.readouterr().out.splitlines()
    assert head.split() == ["run", "state", "step", "epoch", "valid", "checkpoint", "starts", "restarts", "where", "moved"]
    *words, seconds, _, ago = line.split()
    assert words == ["one", "stopped", "40/57", "2/3", "accuracy", "50.00", "%", "step-00000038", "2", "1", "-"]
    assert int(seconds) < 60 and ago == "ago"


def test_a_stop_that_an_earlier_start_was_asked_for_is_not_the_next_ones(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    run.event("stopped", attempt=0, step=1)
    append_jsonl(run.events, {"time": time.time() - 10, "event": "stop-requested"})
    lock = RunLock(run.lock)
    assert (row(run, capsys)["state"], row(run, capsys)["detail"]) == ("running", "")
    run.event("stop-requested", by="user", job_id=None)
    assert (row(run, capsys)["state"], row(run, capsys)["detail"]) == ("running", "asked to stop")
    lock.release()


def test_a_run_under_way_tells_its_place_its_process_and_when_it_moved(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    run.events.write_text('{"time": 5.0, "event": "started"}\n')
    lock = RunLock(run.lock)
    beat(run, 10)
    found = row(run, capsys)
    lock.release()
    assert (found["step"], found["epoch"], found["process"], found["host"]) == (30, 1, os.getpid(), HERE)
    assert 11.9 < time.time() - found["moved"] < 60  # 2 s before that heartbeat


def test_updates_are_counted_from_the_samples_before_an_epoch_is_complete(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    write_json(run.environment, [{"data": {"samples": 1257}}])
    assert row(run, capsys)["of"] == 57
    run.config.write_text(CONFIG.replace("drop_last: true", "drop_last: false"))
    assert row(run, capsys)["of"] == 60
    run.config.write_text(CONFIG.replace("max_steps: null", "max_steps: 7"))
    assert row(run, capsys)["of"] == 7


def test_the_newest_figures_of_a_huge_file_are_found_at_its_end(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    with open(run.metrics, "wb") as file:
        file.truncate(1 << 40)  # nobody can read all of that
    append_jsonl(run.metrics, {"step": 38, "epoch": 2, "split": "valid", "loss": 0.25})
    for step in range(10_000):
        append_jsonl(run.metrics, {"step": step, "epoch": 2, "split": "train", "loss": 1.0})
    for step in range(10_000):
        run.event("checkpointed", attempt=0, step=step, checkpoint=f"step-{step:08d}")
    found = row(run, capsys)
    assert found["valid"] == {"step": 38, "epoch": 2, "loss": 0.25}
    assert found["step"] == 9999


@pytest.mark.parametrize("size", [10, 65_535, 65_536, 65_537, 200_000])
def test_rows_are_read_backwards_whatever_their_length_and_a_torn_one_is_skipped(tmp_path: Path, size: int) -> None:
    path = tmp_path / "rows.jsonl"
    for number in range(5):
        append_jsonl(path, {"number": number, "text": "x" * size})
    with open(path, "ab") as file:
        file.write(b'{"number": 5')
    assert [found["number"] for found in newest_rows(path)] == [4, 3, 2, 1, 0]
    append_jsonl(path, {"number": 6})
    assert [found["number"] for found in newest_rows(path)] == [6, 4, 3, 2, 1, 0]


def break_nothing(run: RunDir) -> None:
    run.config.unlink()


def break_config(run: RunDir) -> None:
    run.config.write_bytes(b"train: {epochs: 3\n\x00")


def break_settings(run: RunDir) -> None:
    run.config.write_text("just text\n")


def break_section(run: RunDir) -> None:
    run.config.write_text("train: 3\n")


def break_events(run: RunDir) -> None:
    run.events.unlink()
    run.events.mkdir()


def break_metrics(run: RunDir) -> None:
    os.mkfifo(run.metrics)


@pytest.mark.parametrize("damage", [break_nothing, break_config, break_settings, break_section, break_events, break_metrics])
def test_a_run_that_cannot_be_read_is_one_line_and_the_others_are_shown(
    run: RunDir, capsys: pytest.CaptureFixture[str], damage: Any
) -> None:
    other = make(run.path.parent / "two")
    damage(run)
    assert status([str(run.path), str(other.path)], root="runs") == BAD_CONFIG
    _, first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("one  unreadable: ")
    assert "one" in first.partition(":")[2]
    assert second.split()[:2] == ["two", "created"]
    assert status([], root=str(run.path.parent)) == DONE


@pytest.mark.parametrize("text", ["[]", "{}", '{"time": "x", "event": 7, "step": []}', "null", "\x00" * 50, '{"a":' * 3000])
def test_files_that_say_anything_at_all_are_no_traceback(run: RunDir, capsys: pytest.CaptureFixture[str], text: str) -> None:
    run.slurm.mkdir()
    for path in (run.events, run.metrics, run.submissions, run.environment, run.heartbeat(0), run.lock):
        path.write_text(f"{text}\n")
    assert row(run, capsys)["state"] in ("created", "unreadable")


def test_all_runs_of_the_root_are_listed_and_what_is_none_is_not(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    make(run.path.parent / "another")
    (run.path.parent / "notes.txt").write_text("mine")
    (run.path.parent / "folder").mkdir()
    assert status([], root=str(run.path.parent)) == DONE
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["run", "another", "one"]
    assert status([], root=str(run.path)) == DONE
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["run", "one"]
    assert status([], root=str(run.path / "nowhere"), as_json=True) == DONE
    assert json.loads(capsys.readouterr().out) == []
    assert status([], root=str(run.path / "nowhere")) == DONE
    assert capsys.readouterr().out == f"{run.path / 'nowhere'}: no run here\n"


def test_slurm_is_asked_once_for_all_runs_and_not_at_all_without_a_submission(
    run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "squeue"
    command.write_text(f"#!/bin/sh\necho \"$@\" >> {tmp_path}/asked\necho 'slurm_load_jobs error: Socket timed out' >&2\nexit 1\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}:/bin")
    root = run.path.parent
    status([], root=str(root))
    assert not (tmp_path / "asked").exists()
    for name, job_id in (("two", "12"), ("three", "13_4"), ("four", "13_5")):
        submit(make(root / name), job_id)
    ended = make(root / "five")
    submit(ended, "14")
    ended.event("finished", attempt=0, step=57)
    capsys.readouterr()
    assert status([], root=str(root)) == DONE
    out, err = capsys.readouterr()
    (asked,) = (tmp_path / "asked").read_text().splitlines()
    assert "--jobs=12,13_4,13_5 " in asked
    assert out.count("waiting (Slurm does not answer)") == 3
    assert out.count("\n") == 6
    assert len(err.splitlines()) == 1
    assert "Socket timed out" in err


def test_a_terminal_gets_colours_and_a_file_plain_columns_and_neither_loads_torch(run: RunDir) -> None:
    run.event("failed", attempt=0, exit_code=4, reason="x")
    heavy = "any(name in sys.modules for name in ('torch', 'numpy'))"
    probe = f"import sys; from launcher.cli import main; code = main(); sys.exit(9 if {heavy} else code)"
    command = [sys.executable, "-c", probe, "status", "--root", str(run.path.parent)]
    plain = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60, check=False)
    assert (plain.returncode, plain.stderr) == (DONE, "")
    assert "failed (exit 4)" in plain.stdout
    assert "\x1b[" not in plain.stdout
    master, slave = pty.openpty()
    with subprocess.Popen(command, env=environment(TERM="xterm", COLUMNS="160"), stdin=slave, stdout=slave, stderr=slave) as process:
        os.close(slave)
        seen = b""
        while True:
            try:
                block = os.read(master, 4096)
            except OSError:
                break
            if not block:
                break
            seen += block
    os.close(master)
    assert process.returncode == DONE
    assert b"\x1b[31mfailed (exit 4)" in seen


@pytest.mark.parametrize(
    ("seconds", "text"), [(-3, "0 s ago"), (119, "119 s ago"), (120, "2 min ago"), (7200, "2 h ago"), (2e5, "2 d ago")]
)
def test_ages_are_told_in_the_unit_that_fits(seconds: float, text: str) -> None:
    assert ago(seconds) == text
