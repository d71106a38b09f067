"""A job stands in the queue again after an interruption, and not after an end, a stop, or turns that lead nowhere."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from launcher import requeue
from launcher.failure import Verdict
from launcher.requeue import Past, begin_turn, job_id, past, stand_in_again, too_often, why_not
from launcher.sbatch import GRANT, TASK, WISH
from launcher.slurm_query import SlurmJob
from tests.support.jobs import DIGITS, events
from trainer.errors import BAD_CONFIG, DONE, LOST, STOPPED, STUCK, TRAINING_FAILED
from trainer.rundir import RunDir

RUNS = SlurmJob("7", "RUNNING", left_s=100, restarts=2)
STOP = Verdict(STOPPED)


def refusal(verdict: Verdict = STOP, found: Past = Past(), known: SlurmJob | None = RUNS, *, wanted: bool = True) -> str | None:  # noqa: B008
    return why_not(verdict, found, known, turn=2, limit=3, wanted=wanted)


@pytest.mark.parametrize("verdict", [STOP, Verdict(LOST, ("node 1 is gone",), restart=True)])
def test_what_was_interrupted_goes_on(verdict: Verdict) -> None:
    assert refusal(verdict) is None
    assert refusal(verdict, known=None) is None


@pytest.mark.parametrize("code", [DONE, BAD_CONFIG, TRAINING_FAILED, STUCK, LOST])
def test_what_has_ended_does_not(code: int) -> None:
    assert refusal(Verdict(code)) == ""


def test_nobody_is_overruled() -> None:
    assert refusal(found=Past(stop_asked=True)) == ""
    assert refusal(found=Past(over=True)) == ""
    for state in ("CANCELLED", "COMPLETING", "FAILED", "NODE_FAIL", "PENDING", "REQUEUED"):
        assert refusal(known=replace(RUNS, state=state)) == "", state
    assert refusal(known=replace(RUNS, restarts=3)) == ""  # Slurm has done it already


def test_a_job_that_the_time_limit_has_met_is_none_that_somebody_has_cancelled() -> None:
    for state in ("COMPLETING", "TIMEOUT"):
        assert refusal(known=replace(RUNS, state=state, left_s=0)) is None


def test_one_line_says_why_a_job_stays_out() -> None:
    assert refusal(found=Past(in_vain=3)) is None
    assert "4 turns in a row brought no new checkpoint" in str(refusal(found=Past(in_vain=4)))
    assert "requeue: false" in str(refusal(wanted=False))
    assert too_often(Past(in_vain=4), 3) is None
    assert "not started again: 4 turns in a row" in str(too_often(Past(in_vain=5), 3))


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    folder = RunDir(tmp_path / "r")
    folder.create()
    return folder


def test_turns_count_until_one_brings_a_checkpoint_or_somebody_submits_again(run: RunDir) -> None:
    run.event("submitted", job_id="7")
    assert past(run).in_vain == 1
    run.event("started", attempt=0)
    run.event("requeued", job_id="7", restart=1)
    run.event("requeued", job_id="7", restart=2)
    assert past(run).in_vain == 3
    run.event("checkpointed", checkpoint="step-00000004")
    assert past(run).in_vain == 0
    run.event("requeued", job_id="7", restart=3)
    assert past(run).in_vain == 1
    run.event("requeued", job_id="7", restart=4)
    run.event("submitted", job_id="8")
    assert past(run).in_vain == 1


def test_a_wish_to_stop_holds_until_somebody_submits_again(run: RunDir) -> None:
    run.event("submitted", job_id="7")
    run.event("stop-requested", by="user")
    run.event("started", attempt=0)
    assert past(run).stop_asked
    run.event("submitted", job_id="8")
    assert not past(run).stop_asked


def test_a_wish_to_stop_outlives_a_requeue_that_crosses_it(run: RunDir) -> None:
    run.event("submitted", job_id="7")
    run.event("stop-requested", by="user")
    run.event("stopped", step=3)
    run.event("requeued", job_id="7", restart=1)
    assert past(run).stop_asked


def test_a_run_that_has_failed_for_good_is_over_and_one_that_was_lost_is_not(run: RunDir) -> None:
    run.event("failed", exit_code=LOST)
    assert not past(run).over
    run.event("failed", exit_code=TRAINING_FAILED)
    assert past(run).over
    run.event("resumed", attempt=1)
    assert not past(run).over
    run.event("finished")
    assert past(run).over


def test_a_requeue_of_slurms_own_is_written_down_once(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_ARRAY_JOB_ID", "SLURM_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    run.event("submitted", job_id="7")
    begin_turn(run)
    assert events(run, "requeued") == []
    run.event("requeued", job_id="7", restart=1)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    begin_turn(run)
    assert len(events(run, "requeued")) == 1
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    assert begin_turn(run).in_vain == 3
    begin_turn(run)
    assert [event.get("reason") for event in events(run, "requeued")] == [None, "by Slurm"]


def test_an_allocation_in_which_somebody_works_by_hand_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.delenv("SUBMITIT_EXECUTOR", raising=False)
    assert job_id() is None
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "local")
    assert job_id() is None


@pytest.fixture
def job(run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    """The run in its second turn, as job 7 of a Slurm whose commands write down what they are called with."""
    for name in ("SLURM_ARRAY_JOB_ID", "SUBMITIT_DEBUG_JOB_ID", WISH):
        monkeypatch.delenv(name, raising=False)
    for name, value in (("SLURM_JOB_ID", "7"), ("SLURM_RESTART_COUNT", "1"), ("SUBMITIT_EXECUTOR", "slurm")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/bin:/usr/bin")
    monkeypatch.setattr(requeue, "REQUEUE_WITHIN_S", 1.0)
    monkeypatch.setattr(requeue, "POLL_S", 0.05)
    run.config.write_text(DIGITS.read_text())
    run.event("submitted", job_id="7")
    run.event("stopped", step=3)
    put(tmp_path, "squeue", "echo RUNNING")
    put(tmp_path, "scancel")
    return run


def put(folder: Path, name: str, script: str = "exit 0") -> None:
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin" / name).write_text(f'#!/bin/sh\necho "{name} $@" >> {folder}/asked\n{script}\n')
    (folder / "bin" / name).chmod(0o755)


def asked(folder: Path) -> list[str]:
    return (folder / "asked").read_text().splitlines() if (folder / "asked").exists() else []


SHOW = 'case "$*" in *show*) {};; esac'
RUNNING = "echo 'JobId=7 JobState=RUNNING Restarts=1 RunTime=00:01:00 TimeLimit=00:05:00'"


def test_a_job_of_which_slurm_does_not_say_whether_it_was_cancelled_is_left_alone(
    job: RunDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path, "scontrol", SHOW.format("exit 1"))
    stand_in_again(job, STOP, "SIGTERM", wanted=True)
    assert not [line for line in asked(tmp_path) if "requeue" in line]
    assert events(job, "requeued") == []
    assert capsys.readouterr().err.startswith("not queued again: Slurm does not say")


def test_a_slurm_that_is_slow_to_answer_is_asked_again(job: RunDir, tmp_path: Path) -> None:
    put(tmp_path, "scontrol", SHOW.format(f"[ $(wc -l < {tmp_path}/asked) -gt 2 ] || exit 1; {RUNNING}"))
    stand_in_again(job, STOP, "SIGUSR2", wanted=True)
    assert [event["restart"] for event in events(job, "requeued")] == [2]


def test_a_stop_that_comes_while_the_job_is_queued_again_takes_it_out(job: RunDir, tmp_path: Path) -> None:
    stop = f'echo \'{{"event": "stop-requested"}}\' >> {job.events}'
    put(tmp_path, "scontrol", f"case $1 in requeue) {stop};; *) {RUNNING};; esac")
    stand_in_again(job, STOP, "SIGUSR2", wanted=True)
    assert asked(tmp_path)[-1] == "scancel 7"


def test_in_a_container_a_wish_says_of_which_turn_it_is_and_the_next_one_writes_it_down(
    job: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv(WISH, str(tmp_path / "again-7"))
    stand_in_again(job, STOP, "SIGUSR2", wanted=True)
    assert (tmp_path / "again-7").read_text() == "1 SIGUSR2\n"
    assert events(job, "requeued") == []  # nobody knows yet
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    begin_turn(job)
    assert [event["reason"] for event in events(job, "requeued")] == ["SIGUSR2"]
    assert not (tmp_path / "again-7").exists()


@pytest.mark.parametrize(("wish", "granted"), [("1 SIGUSR2", True), ("0 SIGTERM", False), (None, False)])
def test_outside_the_container_the_wish_of_an_earlier_turn_is_none(job: RunDir, tmp_path: Path, wish: str | None, granted: bool) -> None:
    put(tmp_path, "scontrol")
    put(tmp_path, "sleep")
    if wish is not None:
        (tmp_path / "again-7").write_text(f"{wish}\n")
    script = f"sh -c 'exit 4'\n{GRANT.format(wish=f'{tmp_path}/again-$SLURM_JOB_ID', task=TASK)}"
    done = subprocess.run(["bash", "-c", script], env=dict(os.environ), capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (4, "")
    assert ("scontrol requeue 7" in asked(tmp_path)) == granted
