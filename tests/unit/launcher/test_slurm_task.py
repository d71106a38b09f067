"""A job asks for its stop early enough, also where saves turn out to be slow, and waits for machines that were lost."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launcher.clock import Clock, needed, told
from launcher.failure import Verdict
from launcher.requests import SPARE_S, Requests
from launcher.requeue import Past, why_not
from launcher.slurm_task import wait_until_free
from tests.support.jobs import DIGITS, environment
from trainer.errors import LOST, STOPPED
from trainer.rundir import RunDir

HOLD = """
import fcntl, sys, time
file = open(sys.argv[1], "a")
fcntl.flock(file, fcntl.LOCK_SH)
print("held", flush=True)
time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A run whose stop may take half a second."""
    found = RunDir(tmp_path / "r")
    found.create()
    found.config.write_text(f"{DIGITS.read_text()}\nsupervision: {{grace_s: 0.5}}\n")
    found.event("started", attempt=0)
    return found


def held(path: Path, seconds: float) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path), str(seconds)], env=environment(), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_stop_takes_its_grace_and_two_saves_and_what_is_spare_but_never_more_than_half_of_a_turn() -> None:
    assert needed(30, 0, 3600) == 30 + SPARE_S
    assert needed(30, 100, 3600) == 230 + SPARE_S
    assert needed(2, 5, 3600) == 12 + 2
    assert needed(30, 100, 240) == 120
    assert needed(30, 100, 40) == 30


def test_a_save_that_is_measured_while_the_clock_runs_brings_the_alarm_forward(
    run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launcher.clock.ASK_AGAIN_S", 0.2)
    for name in ("SLURM_ARRAY_JOB_ID", "SUBMITIT_DEBUG_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    ends = time.time() + 12
    squeue = tmp_path / "bin" / "squeue"
    squeue.parent.mkdir()
    squeue.write_text(f'#!/bin/sh\necho "7|RUNNING|n1|1|5:00|0:$(printf %02d $(({int(ends)} - $(date +%s))))|main|None"\n')
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{squeue.parent}:/bin:/usr/bin")
    with Requests() as requests:
        clock = Clock(run, requests, asks=True)
        clock.start()
        time.sleep(1)
        run.event("checkpointed", checkpoint="step-00000004", step=4, seconds=100.0)
        requests.pause(60)
        clock.done.set()
        assert requests.signals == [signal.SIGUSR2]
        assert requests.time_is_up
        assert clock.reason(Verdict(STOPPED)) == "time limit"
        assert ends - time.time() > 2  # one second, had nobody looked again


def test_where_slurm_cannot_be_asked_the_time_is_what_the_jobs_script_said_at_the_beginning_of_the_turn(
    run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SLURM_ARRAY_JOB_ID", "SUBMITIT_DEBUG_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    monkeypatch.setenv("OSTINATO_TIME_LEFT", f"{time.time():.0f} 0:04")
    monkeypatch.setenv("PATH", str(tmp_path))  # an image without Slurm's commands
    with Requests() as requests:
        clock = Clock(run, requests, asks=True)
        clock.start()
        requests.pause(60)
        clock.done.set()
        assert requests.signals == [signal.SIGUSR2]
        assert clock.reason(Verdict(STOPPED)) == "time limit"


def test_a_turns_end_is_read_from_the_variables_and_nothing_from_what_is_no_time() -> None:
    assert told({"OSTINATO_TIME_LEFT": "1000 1-00:00:10", "SLURM_JOB_END_TIME": "5"}) == 1000 + 86410
    assert told({"OSTINATO_TIME_LEFT": "1000 ", "SLURM_JOB_END_TIME": "5000"}) == 5000
    for left in ("", "1000", "1000 UNLIMITED", "1000 INVALID", " 1:00"):
        assert told({"OSTINATO_TIME_LEFT": left}) is None


def test_all_have_left_in_the_grace_or_with_the_jobs_time_whichever_it_is_that_ends() -> None:
    requests = Requests()
    requests.since, requests.signals = 1000.0, [signal.SIGTERM]
    assert requests.leave_by(30) == 1028
    requests.time_limit = (990.0, 1200.0)
    assert requests.leave_by(30) == 1028  # a preemption, which waits for nobody
    requests.signals.append(signal.SIGUSR2)
    assert requests.leave_by(30) == 1200 - SPARE_S
    requests.time_limit = (990.0, 1010.0)
    assert requests.leave_by(30) == 1028
    requests.time_limit = (1100.0, 1200.0)
    assert not requests.time_is_up  # it was long before
    assert requests.leave_by(30) == 1028


@pytest.mark.parametrize("name", ["lock", "fence"])
def test_what_a_lost_machine_still_holds_is_waited_for_and_then_left_to_the_next_turn(run: RunDir, name: str) -> None:
    path = run.path / name
    with held(path, 60) as process:
        verdict = wait_until_free(run, Requests(), within_s=0.3)
        process.kill()
    assert verdict is not None
    assert (verdict.exit_code, verdict.restart) == (LOST, True)
    assert why_not(verdict, Past(in_vain=1), None, turn=1, limit=3, wanted=True) is None
    with held(path, 2) as process:
        assert wait_until_free(run, Requests()) is None
    assert process.returncode == 0


def test_a_stop_that_is_asked_for_meanwhile_ends_the_waiting(run: RunDir) -> None:
    descriptor = os.open(run.lock, os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with Requests() as requests:
        os.kill(os.getpid(), signal.SIGTERM)
        verdict = wait_until_free(run, requests)
    os.close(descriptor)
    assert verdict is not None
    assert verdict.exit_code == STOPPED
