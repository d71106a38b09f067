"""A task: how a loss comes from a batch, and what is counted of it. Write your own by subclassing `Task`.

What is measured is a *sum over samples*, so that it can be added up over batches and workers in one fixed order: whole numbers (int64, of
any shape) are exact in any order; fractions (float64) are added in the order of the batches, whoever computed them.
"""

from __future__ import annotations

from typing import Any

import torch

Sums = dict[str, torch.Tensor]


class Task:
    """Loss only: for models of which nothing else is known.

    Args:
        loss: the config's loss: called with (output, targets), the mean over the samples.
    """

    quick_name: str | None = None
    """The name of what `quick` counts, as a mean over the samples; None: training measures the loss only."""

    lower_is_better: tuple[str, ...] = ("loss",)
    """The metrics of which less is better."""

    def __init__(self, loss: Any) -> None:
        self.loss = loss

    def run(self, model: Any, inputs: Any, targets: Any) -> tuple[Any, torch.Tensor]:
        """One forward pass: the output, and the mean loss over the samples (0-dimensional)."""
        output = model(inputs)
        return output, self.loss(output, targets)

    def quick(self, output: Any, targets: Any) -> torch.Tensor | None:
        """What training counts in each step: the sum over the samples (0-dimensional); it must not wait for the device."""
        return None

    def measure(self, output: Any, targets: Any) -> Sums:
        """What an evaluation counts of a batch: sums over its samples, float64 or int64."""
        return {}

    def metrics(self, sums: Sums, samples: int) -> dict[str, float]:
        """The metrics of a whole set, from the sums over its batches (CPU tensors)."""
        return {}

    def details(self, sums: Sums, samples: int) -> dict[str, Any]:
        """What is more than a number: a confusion matrix, figures for each class. Plain types."""
        return {}

    def classes(self, output: Any, targets: Any) -> int | None:
        """How many classes the labels may be of; None where labels are none."""
        return None
