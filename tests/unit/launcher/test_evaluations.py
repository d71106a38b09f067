"""What a sweep's runs are compared by: the config's metric, in the direction that its task says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from launcher.evaluations import best_of, more_is_better, watched
from trainer.config.load import load
from trainer.config.schema import Config
from trainer.tasks.base import Task

CONFIG = """
model: {target: mlp, in_features: 64, num_classes: 10}
data: {train: {target: digits}, valid: {target: digits, split: valid}, batch_size: 64}
optimizer: {target: sgd, lr: 0.1}
train: {epochs: 1}
"""


class Odd(Task):
    """Its accuracy is a distance."""

    lower_is_better = ("accuracy",)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "c.yaml"
    path.write_text(CONFIG)
    return path


def config(file: Path, *overrides: str) -> Config:
    return load(file, overrides).config


@pytest.mark.parametrize(
    ("overrides", "row", "expected"),
    [
        ((), {"accuracy": 0.5, "loss": 1.0}, ("accuracy", True)),
        ((), {"loss": 1.0, "mae": 1.0}, ("loss", False)),
        (("train.monitor=loss",), {"accuracy": 0.5}, ("loss", False)),
        (("train.monitor=mae",), {}, ("mae", False)),
        (("train.monitor=r2",), {}, ("r2", True)),
        (("train.monitor=mine", "train.monitor_mode=min"), {}, ("mine", False)),
        ((f"task.target={__name__}:Odd",), {"accuracy": 0.5}, ("accuracy", False)),
        (("task.target=regression", "train.monitor=rmse"), {}, ("rmse", False)),
    ],
)
def test_the_metric_and_its_direction(file: Path, overrides: tuple[str, ...], row: dict[str, Any], expected: tuple[str, bool]) -> None:
    assert watched(config(file, *overrides), [row]) == expected


def test_what_is_not_finite_is_never_the_best() -> None:
    rows = [{"loss": float("nan")}, {"loss": 2.0, "epoch": 2}, {"loss": None}, {"loss": 2.0, "epoch": 4}, {"loss": 3.0}]
    assert best_of(rows, "loss", more=False) == {"loss": 2.0, "epoch": 2}
    assert best_of(rows, "loss", more=True) == {"loss": 3.0}
    assert best_of(rows[:1], "loss", more=False) is None


@pytest.mark.parametrize(
    ("settings", "name", "expected"),
    [
        ({}, "accuracy", True),
        ({}, "rmse", False),
        ({}, "wer", None),
        ({"task": {"target": "regression"}}, "r2", True),
        ({"task": {"target": "mine:Task"}}, "accuracy", None),
        ({"task": {"target": "mine:Task"}}, "loss", False),
        ({"task": {"target": "mine:Task"}, "train": {"monitor": "wer", "monitor_mode": "min"}}, "wer", False),
        ({"train": {"monitor": "wer", "monitor_mode": "auto"}}, "wer", None),
    ],
)
def test_of_a_figure_without_a_known_direction_none_is_called_the_best(settings: dict[str, Any], name: str, expected: bool | None) -> None:
    assert more_is_better(settings, name) is expected
