"""Only the process that really holds a run's lock is asked to stop, and a run that does not run is no error."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.stopping import resume, stop
from tests.support.jobs import environment, events
from trainer.errors import BAD_CONFIG, DONE, LOST, RunFolderError
from trainer.locks import RunLock
from trainer.rundir import RunDir, append_jsonl, make_private

HOLD = """
import signal, sys
from trainer.locks import RunLock
from trainer.rundir import RunDir
run = RunDir(sys.argv[1])
lock = RunLock(run.lock)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
print("held", flush=True)
signal.sigwait([signal.SIGTERM])
if sys.argv[2] == "well":
    run.event("stopped", attempt=0, step=7, signal="SIGTERM")
elif sys.argv[2] == "badly":
    run.event("failed", attempt=0, exit_code=5, reason="killed")
"""
HOLDERS: list[subprocess.Popen[bytes]] = []


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A run that began."""
    found = RunDir(tmp_path / "one")
    found.create()
    found.config.write_text("train: {epochs: 3}\n")
    found.event("created", config="x.yaml", overrides=[])
    found.event("started", attempt=0, workers=2, checkpoint=None)
    return found


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has nothing to do with the run."""
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


@pytest.fixture(autouse=True)
def _no_holder_stays() -> Iterator[None]:
    yield
    for process in HOLDERS:
        process.kill()
        process.wait()
    HOLDERS.clear()


def hold(run: RunDir, end: str = "well") -> subprocess.Popen[bytes]:
    """A process that holds the run's lock, and lets it go when it is asked to stop."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(run.path), end], env=environment(), stdout=subprocess.PIPE)
    assert process.stdout is not None
    HOLDERS.append(process)
    assert process.stdout.readline() == b"held\n"
    process.stdout.close()
    return process


@pytest.mark.parametrize("event", ["stopped", "finished", "failed", None])
def test_a_run_that_does_not_run_is_told_so_and_nothing_changes(run: RunDir, capsys: pytest.CaptureFixture[str], event: str | None) -> None:
    if event is not None:
        run.event(event, attempt=0, step=5)
    before = run.events.read_bytes()
    assert stop([str(run.path)]) == DONE
    assert capsys.readouterr().out.startswith(f"one: does not run: {event or 'lost'}")
    assert run.events.read_bytes() == before


def test_the_holder_is_asked_and_waited_for(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    process = hold(run)
    run.event("checkpointed", attempt=0, step=7, checkpoint="step-00000007")
    assert stop([str(run.path)]) == DONE
    process.wait()
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"one: asked to stop (process {process.pid})"
    assert second == f"one: stopped at step 7 with checkpoint step-00000007; ostinato resume {run.path} goes on"
    (request,) = events(run, "stop-requested")
    assert (request["by"], request["job_id"]) == ("user", None)


def test_without_waiting_it_is_only_asked(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    process = hold(run)
    assert stop([str(run.path)], wait=False) == DONE
    assert capsys.readouterr().out == f"one: asked to stop (process {process.pid})\n"
    assert process.wait(60) == 0


@pytest.mark.parametrize(
    ("end", "code", "text"), [("badly", LOST, "failed (exit 5)"), ("silently", DONE, "stopped (without a checkpoint of its own)")]
)
def test_an_end_that_is_no_stop_is_told(run: RunDir, capsys: pytest.CaptureFixture[str], end: str, code: int, text: str) -> None:
    process = hold(run, end)
    assert stop([str(run.path)]) == code
    process.wait()
    out, err = capsys.readouterr()
    assert f"one: {text} with no checkpoint yet" in out + err


def test_a_process_that_has_the_number_and_not_the_lock_is_left_alone(
    run: RunDir, sleeper: subprocess.Popen[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    lock = RunLock(run.lock)
    run.lock.write_text(f"process {sleeper.pid} on {os.uname().nodename}\n")
    assert stop([str(run.path)]) == BAD_CONFIG
    lock.release()
    assert f"process {sleeper.pid} is named there and does not hold it" in capsys.readouterr().err
    time.sleep(0.1)
    assert sleeper.poll() is None
    assert not events(run, "stop-requested")


def test_a_run_on_another_machine_is_refused_with_that_machines_name_and_the_others_are_stopped(
    run: RunDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = RunLock(run.lock)
    run.lock.write_text("process 41 on elsewhere\n")
    other = RunDir(tmp_path / "two")
    other.create()
    other.config.write_text("train: {epochs: 3}\n")
    process = hold(other)
    assert stop([str(run.path), str(other.path), str(tmp_path / "none")]) == BAD_CONFIG
    lock.release()
    assert process.wait(60) == 0
    out, err = capsys.readouterr()
    away, none = err.splitlines()
    assert "is run by process 41 on elsewhere; stop it there" in away
    assert "no run here" in none
    assert "two: stopped at step 7" in out
    assert not events(run, "stop-requested")


def test_a_job_in_a_queue_that_cannot_be_asked_from_here_is_refused(
    run: RunDir, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    make_private(run.slurm)
    append_jsonl(run.submissions, {"time": 1.0, "job_id": "12"})
    run.event("submitted", job_id="12")
    assert stop([str(run.path)]) == BAD_CONFIG
    assert "is job 12 of a Slurm that cannot be asked from here" in capsys.readouterr().err


def test_ctrl_c_ends_only_the_waiting(run: RunDir) -> None:
    process = hold(run, "silently")
    os.kill(process.pid, signal.SIGSTOP)  # it does not answer
    command = [sys.executable, "-m", "launcher", "stop", str(run.path)]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as waiting:
        assert waiting.stdout is not None
        assert "asked to stop" in waiting.stdout.readline()
        waiting.send_signal(signal.SIGINT)
        _, err = waiting.communicate(timeout=60)
    assert waiting.returncode == 130
    assert err == "ostinato: no longer waiting; asked to stop: one; ostinato status says when it has\n"
    os.kill(process.pid, signal.SIGCONT)
    assert process.wait(60) == 0


def test_a_run_that_is_under_way_is_not_resumed_beside_itself(run: RunDir) -> None:
    lock = RunLock(run.lock)
    with pytest.raises(RunFolderError, match=f"is running already .process {os.getpid()} on .*; wait for it, or stop it"):
        resume(str(run.path))
    lock.release()
    with pytest.raises(RunFolderError, match="no run here"):
        resume(str(run.path / "nothing"))
