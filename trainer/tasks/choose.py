"""The task that a loss means, where the config names none."""

from __future__ import annotations

from typing import Any

from torch import nn

from trainer.tasks.base import Task
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
