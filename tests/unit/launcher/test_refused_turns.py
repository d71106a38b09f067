"""A turn that ends before it trains leaves its exit code for whoever waits."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.slurm import exit_code
from launcher.slurm_task import note_refusal
from tests.support.jobs import DIGITS, events
from trainer.errors import BAD_CONFIG, LOST, CheckpointError, ConfigError, NodeLostError, OstinatoError
from trainer.prepare import prepare
from trainer.rundir import RunDir, RunLock


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    made = prepare(DIGITS, [f"run.root={tmp_path}"], world_size=2).run
    made.event("submitted")
    return made


@pytest.mark.parametrize(
    ("fault", "code"), [(ConfigError("one", "two"), BAD_CONFIG), (CheckpointError("x"), 3), (NodeLostError("x"), LOST)]
)
def test_it_is_the_exit_code_of_submit_wait(run: RunDir, fault: OstinatoError, code: int) -> None:
    note_refusal(run, fault)
    assert exit_code(run) == code


def test_nothing_is_written_into_a_run_that_somebody_else_runs(run: RunDir) -> None:
    lock = RunLock(run.lock)
    note_refusal(run, ConfigError("is in use"))
    assert not events(run, "failed")
    lock.release()
    note_refusal(run, ConfigError("is in use"))
    assert [event["reason"] for event in events(run, "failed")] == ["is in use"]
