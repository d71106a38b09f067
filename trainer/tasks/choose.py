"""The task that a loss means, where the config names none."""

from __future__ import annotations

from typing import Any

from torch import nn

from trainer.config.schema import Config
from trainer.registry import resolve
from trainer.tasks.base import Task, less_is_better_of
from trainer.tasks.classification import Classification, MultiLabel
from trainer.tasks.regression import Regression

_BY_LOSS: tuple[tuple[type[nn.Module] | tuple[type[nn.Module], ...], type[Task]], ...] = (
    ((nn.BCEWithLogitsLoss, nn.MultiLabelSoftMarginLoss), MultiLabel),
    ((nn.MSELoss, nn.L1Loss, nn.HuberLoss, nn.SmoothL1Loss), Regression),
)


def auto(loss: Any) -> Task:
    """Multi-label for binary cross-entropy, regression for distances, classification for everything else that has scores and classes."""
    for kinds, task in _BY_LOSS:
        if isinstance(loss, kinds):
            return task(loss)
    return Classification(loss)


def less_is_better(config: Config, metric: str) -> bool | None:
    """Whether less of a config's metric is better, without building anything; None: its task does not say.

    Raises:
        ConfigError: there is no such task.
    """
    target = config.task.target
    if target == "auto":
        said = [less_is_better_of(task, metric) for task in (*(task for _, task in _BY_LOSS), Classification)]
        return next((less for less in said if less is not None), None)
    task = resolve("task", target)
    return less_is_better_of(task, metric) if isinstance(task, type) and issubclass(task, Task) else None
