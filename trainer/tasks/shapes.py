"""Targets in the shape of the output: torch would stretch (n,) against (n, 1) to (n, n), and call every prediction wrong."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from trainer.errors import TrainingError

DISTANCES = (nn.MSELoss, nn.L1Loss, nn.HuberLoss, nn.SmoothL1Loss)
"""Losses that compare number with number."""


def fitted(output: Any, targets: Any) -> Any:
    """Targets as a distance takes them: one number a sample may be (n,) or (n, 1), and whole numbers are numbers as well.

    Raises:
        TrainingError: the shapes are others.
    """
    if not isinstance(output, torch.Tensor) or not isinstance(targets, torch.Tensor):
        return targets
    if output.shape != targets.shape:
        if _without_one(output.shape) != _without_one(targets.shape):
            shapes = f"{_said(output)}, and the targets {_said(targets)}"
            raise TrainingError(f"the model's output has shape {shapes}; this loss needs the same shape of both")
        targets = targets.reshape(output.shape)
    return targets if targets.is_floating_point() or targets.is_complex() else targets.to(output.dtype)


def _without_one(shape: torch.Size) -> torch.Size:
    return torch.Size(shape[:1]) if len(shape) == 2 and shape[1] == 1 else shape


def _said(tensor: torch.Tensor) -> str:
    """``(n, 3)``."""
    return f"({', '.join(['n', *map(str, tensor.shape[1:])])}{'' if tensor.ndim > 1 else ','})" if tensor.ndim else "()"
