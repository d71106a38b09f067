"""A sweep takes no run for its own that was made with other settings; what it cannot know, or what is made anew anyway, is no hindrance."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.sweep_plan import Wish, plan
from launcher.sweep_settings import refuse_others
from trainer.errors import RunFolderError
from trainer.prepare import prepare
from trainer.rundir import RunDir, RunLock, append_jsonl

CONFIG = """
model: {target: mlp, in_features: 64, hidden: [8], num_classes: 10}
data: {train: {target: digits}, valid: {target: digits, split: valid}, batch_size: 64}
optimizer: {target: sgd, lr: 0.1}
train: {epochs: 9}
"""
NAMES = ("c-seed0", "c-seed1", "c-seed2")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "c.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made(name: str, *overrides: str, trained: bool = True, workers: int = 1) -> RunDir:
    """A run of the sweep, as its start makes it; one that is trained has a row of metrics."""
    run = prepare("c.yaml", [f"seed={name[-1]}", f"run.name={name}", *overrides], world_size=workers).run
    run.event("started")
    if trained:
        append_jsonl(run.metrics, {"step": 1, "epoch": 1, "split": "valid", "loss": 1.0})
        run.event("finished")
    return run


def typed(*overrides: str, grid: str = "seed=0,1,2", eta: int | None = None) -> None:
    """What the command does before anything is written."""
    found = plan(Wish("c.yaml", overrides, (grid,), eta=eta))
    refuse_others(found, found.standings())


@pytest.mark.parametrize("eta", [None, 3])
def test_runs_with_other_settings_are_refused_in_one_line_that_says_which_and_what(eta: int | None) -> None:
    for name in NAMES[:2]:
        made(name)
    with pytest.raises(RunFolderError) as refused:
        typed("train.epochs=27", "optimizer.lr=0.2", eta=eta)
    assert str(refused.value) == (
        "runs/c-seed0: the run was made with other settings (optimizer.lr: 0.1 -> 0.2; train.epochs: 9 -> 27), and 1 more of this sweep; "
        "give this sweep a --name of its own"
    )


def test_a_config_file_that_was_edited_is_seen(folder: Path) -> None:
    made(NAMES[2])
    typed()
    (folder / "c.yaml").write_text(CONFIG.replace("[8]", "[9]"))
    with pytest.raises(RunFolderError, match=r"^runs/c-seed2: .*\(model\.hidden\.0: 8 -> 9\); give"):
        typed()


@pytest.mark.parametrize("eta", [None, 3])
def test_the_same_settings_go_on_whatever_auto_was_settled_to_and_whatever_changes_no_number(eta: int | None) -> None:
    made(NAMES[0], "hardware.threads=3", workers=2)
    made(NAMES[1], "run.pause_after_epoch=3", "checkpoint.every_steps=5")
    typed("log.every_steps=7", "supervision.grace_s=9", eta=eta)


def test_a_run_in_which_nothing_was_trained_is_made_anew_and_so_not_refused() -> None:
    made(NAMES[0], "train.epochs=3", trained=False)
    typed()


def test_a_run_that_is_only_beginning_is_refused_as_its_results_would_be_waited_for() -> None:
    run = made(NAMES[0], "train.epochs=3", trained=False)
    lock = RunLock(run.lock)
    try:
        with pytest.raises(RunFolderError, match=r"runs/c-seed0: .*\(train\.epochs: 3 -> 9\)"):
            typed()
    finally:
        lock.release()


def test_a_run_whose_config_cannot_be_read_as_that_of_another_version_is_left_as_it_is() -> None:
    run = made(NAMES[0], "train.epochs=3")
    run.config.write_text(run.config.read_text() + "flavour: sweet\n")
    typed()


def test_runs_of_earlier_commands_that_stand_in_the_same_table_count_too() -> None:
    plan(Wish("c.yaml", (), ("seed=0,1",))).write_down()
    made(NAMES[0])
    typed(grid="seed=2")
    with pytest.raises(RunFolderError, match=r"^runs/c-seed0: .*\(train\.epochs: 9 -> 27\); give"):
        typed("train.epochs=27", grid="seed=2")
