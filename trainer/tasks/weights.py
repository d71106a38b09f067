"""What a batch's mean loss weighs: torch divides by the sum of the class weights, or by the places that count, not by the samples."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from trainer.errors import TrainingError


def weight_of(loss: Any, targets: Any) -> torch.Tensor | None:
    """What a cross-entropy's mean was divided by (float64, 0-dimensional); None: by the samples.

    Args:
        loss: the loss.
        targets: what it was called with: class numbers of any shape; shares (soft targets) are divided by their number.
    """
    if not isinstance(loss, (nn.CrossEntropyLoss, nn.NLLLoss)):
        return None
    if not isinstance(targets, torch.Tensor) or targets.dtype != torch.int64:
        return None
    counted = targets != loss.ignore_index
    if loss.weight is None:
        return counted.sum().double()
    each = loss.weight.double()[targets.clamp(0, len(loss.weight) - 1)]  # what is ignored may be no class
    return torch.where(counted, each, 0.0).sum()


def see_lengths(loss: Any, output: torch.Tensor) -> None:
    """Refuse class weights that are not as many as the classes.

    Args:
        loss: the loss.
        output: what it is called with.

    Raises:
        TrainingError: names the argument and both numbers.
    """
    if not isinstance(loss, (nn.CrossEntropyLoss, nn.NLLLoss, nn.BCEWithLogitsLoss)):
        return
    classes = 1 if output.ndim == 1 else output.shape[-1 if isinstance(loss, nn.BCEWithLogitsLoss) else 1]
    for name in ("weight", "pos_weight"):
        value = getattr(loss, name, None)
        one_for_all = isinstance(loss, nn.BCEWithLogitsLoss) and value is not None and value.numel() == 1
        if value is not None and value.ndim == 1 and len(value) != classes and not one_for_all:
            raise TrainingError(f"loss.{name} has length {len(value)}, and the model's output {classes} classes; give one number for each")
