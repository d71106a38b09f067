"""Whether the package is there, and which run is meant."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from trainer.metrics.weights_biases import missing, run_id
from trainer.rundir import RunDir


def test_a_folder_that_is_called_wandb_is_not_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert "pip install 'ostinato[wandb]'" in str(missing())
    (tmp_path / "wandb").mkdir()  # as their runs leave it in the working folder
    assert "pip install 'ostinato[wandb]'" in str(missing())
    (tmp_path / "wandb" / "__init__.py").touch()
    assert missing() is None


def test_a_run_keeps_its_name_in_each_attempt_and_gets_another_when_it_starts_over(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    run.create()
    run.event("created")
    first = run_id(run)
    run.event("started")
    run.event("resumed")
    assert run_id(run) == first
    run.events.rename(tmp_path / "events.old")
    run.events.write_text('{"time": 1.0, "event": "created"}\n')
    assert run_id(run) != first
