"""A run that has paused as its config says is stopped on purpose: it is said so, and its job does not come again."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.closing import stopped_line
from launcher.failure import Verdict
from launcher.requeue import past, why_not
from launcher.slurm_query import Answer, SlurmJob
from launcher.standing import judge, read
from trainer.errors import STOPPED
from trainer.rundir import RunDir, write_atomic
from trainer.stop import PAUSE


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    folder = RunDir(tmp_path / "r")
    folder.create()
    write_atomic(folder.config, b"{}")
    folder.event("submitted", job_id="7")
    folder.event("started", attempt=0)
    folder.event("checkpointed", step=29, checkpoint="step-00000029")
    return folder


def refusal(run: RunDir) -> str | None:
    return why_not(Verdict(STOPPED), past(run), SlurmJob("7", "RUNNING", left_s=100), 0, 3, wanted=True)


def test_its_job_is_not_queued_again_and_one_that_was_interrupted_is(run: RunDir) -> None:
    run.event("stopped", attempt=0, step=29, signal=None, reason=PAUSE, epoch=1)
    assert refusal(run) == ""
    run.event("resumed", attempt=1)
    run.event("stopped", attempt=1, step=40, signal="SIGTERM")
    assert refusal(run) is None


def test_status_and_the_last_line_tell_the_pause(run: RunDir) -> None:
    run.event("stopped", attempt=0, step=29, signal=None, reason=PAUSE, epoch=1)
    found = judge(read(run), Answer({}), 0.0)
    assert (found.state, found.detail) == ("stopped", "paused after epoch 1")
    assert stopped_line(run).startswith("paused after epoch 1, at step 29 with a checkpoint")
