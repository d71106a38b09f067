"""Regression: numbers against numbers."""

from __future__ import annotations

from typing import Any

import torch

from trainer.tasks.base import Sums, Task
from trainer.tasks.shapes import fitted

MOST_OUTPUTS = 1000
"""With more numbers a sample, such as a picture's, there is no R²: it is kept for each of them, and of each batch."""

_ALIKE = 1e-14  # deviations from the mean that are rounding, as a share of it: those of the mean of n times 0.1


class Regression(Task):
    """Outputs and targets of the same shape (n, …), or (n, 1) and (n,); several numbers a sample count by their mean.

    Metrics: mean absolute error, root of the mean squared error, and R², the share of the variance that is explained: the mean over the
    outputs, as scikit-learn has it. Of an output whose targets are all alike nothing can be explained: 1 where it is right, otherwise 0.
    """

    quick_name = "mae"
    lower_is_better = ("loss", "mae", "rmse")
    higher_is_better = ("r2",)

    def run(self, model: Any, inputs: Any, targets: Any) -> tuple[Any, torch.Tensor]:
        """One forward pass: the output, and the mean loss; the targets are in the output's shape."""
        output = model(inputs)
        return output, self.loss(output, fitted(output, targets))

    def quick(self, output: Any, targets: Any) -> torch.Tensor | None:
        """The sum over the samples of the absolute error."""
        return _by_sample((output - fitted(output, targets)).abs()).sum()

    def measure(self, output: Any, targets: Any) -> Sums:
        """Sums of errors and of their squares; for R² each output's squares, and its targets' mean and squared deviations from it."""
        true = fitted(output, targets).double()
        errors = output.double() - true
        sums = {"absolute": _by_sample(errors.abs()).sum(), "squared": _by_sample(errors.square()).sum()}
        true, errors = (value.reshape(len(value), -1) for value in (true, errors))
        if true.shape[1] > MOST_OUTPUTS:
            return sums
        mean = true.mean(0)
        count = torch.full((1,), float(len(true)), dtype=torch.float64, device=true.device)
        return {
            **sums,
            "r2_count": count,
            "r2_mean": mean,
            "r2_spread": (true - mean).square().sum(0),
            "r2_residual": errors.square().sum(0),
        }

    def merge(self, total: Sums, batch: Sums) -> Sums:
        """Moments join as Chan, Golub and LeVeque have it (1979): no difference of large numbers, whatever the targets' mean."""
        merged = super().merge(total, batch)
        if "r2_spread" in total:
            share = batch["r2_count"] / merged["r2_count"]
            apart = batch["r2_mean"] - total["r2_mean"]
            merged["r2_mean"] = total["r2_mean"] + apart * share
            merged["r2_spread"] = merged["r2_spread"] + apart.square() * total["r2_count"] * share
        return merged

    def metrics(self, sums: Sums, samples: int) -> dict[str, float]:
        """MAE, RMSE and R²."""
        if not sums:
            return {}
        found = {"mae": float(sums["absolute"]) / samples, "rmse": (float(sums["squared"]) / samples) ** 0.5}
        if "r2_spread" in sums:
            spread, residual = sums["r2_spread"], sums["r2_residual"]
            alike = spread <= sums["r2_count"] * (_ALIKE * sums["r2_mean"]).square()
            explained = torch.where(alike, (residual == 0).double(), 1 - residual / torch.where(alike, 1.0, spread))
            found["r2"] = float(explained.mean())
        return found


def _by_sample(values: torch.Tensor) -> torch.Tensor:
    return values if values.ndim == 1 else values.flatten(1).mean(1)
