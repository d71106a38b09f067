"""Regression: numbers against numbers."""

from __future__ import annotations

from typing import Any

import torch

from trainer.tasks.base import Sums, Task


class Regression(Task):
    """Outputs and targets of the same shape (n, …); several numbers a sample count by their mean.

    Metrics: mean absolute error, root of the mean squared error, and R² (the share of the variance that is explained).
    """

    quick_name = "mae"
    lower_is_better = ("loss", "mae", "rmse")

    def quick(self, output: Any, targets: Any) -> torch.Tensor | None:
        """The sum over the samples of the absolute error."""
        return _by_sample((output - targets).abs()).sum()

    def measure(self, output: Any, targets: Any) -> Sums:
        """Sums of errors, their squares, and the targets' moments."""
        errors, true = output.double() - targets.double(), targets.double()
        return {
            "absolute": _by_sample(errors.abs()).sum(),
            "squared": _by_sample(errors.square()).sum(),
            "target": _by_sample(true).sum(),
            "target_squared": _by_sample(true.square()).sum(),
        }

    def metrics(self, sums: Sums, samples: int) -> dict[str, float]:
        """MAE, RMSE and R²."""
        mean_square = float(sums["squared"]) / samples
        square = float(sums["target_squared"]) / samples
        variance = square - (float(sums["target"]) / samples) ** 2
        found = {"mae": float(sums["absolute"]) / samples, "rmse": mean_square**0.5}
        if variance > square * 1e-12:  # what is less is rounding: the targets are all alike
            found["r2"] = 1 - mean_square / variance
        return found


def _by_sample(values: torch.Tensor) -> torch.Tensor:
    return values if values.ndim == 1 else values.flatten(1).mean(1)
