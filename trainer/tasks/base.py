"""A task: how a loss comes from a batch, and what is counted of it. Write your own by subclassing `Task`.

What is measured is a *sum over samples*, so that it can be added up over batches and workers in one fixed order: whole numbers (int64, of
any shape) are exact in any order; fractions (float64) are added in the order of the batches, whoever computed them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from trainer.config.explain import did_you_mean
from trainer.config.strict_yaml import one_line
from trainer.tasks.shapes import DISTANCES, fitted
from trainer.tasks.weights import weight_of

Sums = dict[str, torch.Tensor]
Quick = torch.Tensor | tuple[torch.Tensor, torch.Tensor]


class Task:
    """Loss only: for models of which nothing else is known.

    Args:
        loss: the config's loss: called with (output, targets), the mean over the samples.
    """

    quick_name: str | None = None
    """The name of what `quick` counts, as a mean over the samples; None: training measures the loss only."""

    lower_is_better: tuple[str, ...] = ("loss",)
    """The metrics of which less is better. A subclass names its own; those of its bases stay."""

    higher_is_better: tuple[str, ...] = ("accuracy",)
    """The metrics of which more is better, likewise. One that is in neither can only be watched with ``train.monitor_mode``."""

    def __init__(self, loss: Any) -> None:
        self.loss = loss

    def run(self, model: Any, inputs: Any, targets: Any) -> tuple[Any, torch.Tensor]:
        """One forward pass: the output, and the mean loss over the samples (0-dimensional)."""
        output = model(inputs)
        return output, self.loss(output, fitted(output, targets) if isinstance(self.loss, DISTANCES) else targets)

    def loss_weight(self, output: Any, targets: Any) -> torch.Tensor | None:
        """What the loss of a batch weighs among the others of an evaluation (0-dimensional): what its mean was divided by.

        None: the samples in it. A cross-entropy divides by the sum of the class weights, and leaves out what it ignores.
        """
        return weight_of(self.loss, targets)

    def quick(self, output: Any, targets: Any) -> Quick | None:
        """What training counts in each step: the sum over the samples (0-dimensional); it must not wait for the device.

        Where not all samples count, or they have many places: the sum, and how many counted.
        """
        return None

    def measure(self, output: Any, targets: Any) -> Sums:
        """What an evaluation counts of a batch: sums over its samples, float64 or int64."""
        return {}

    def merge(self, total: Sums, batch: Sums) -> Sums:
        """The fractions (float64) of what came before and of the next batch, together; they are merged in the order of the batches."""
        return {name: value + batch[name] for name, value in total.items()}

    def metrics(self, sums: Sums, samples: int) -> dict[str, float]:
        """The metrics of a whole set, from the sums over its batches (CPU tensors)."""
        return {}

    def details(self, sums: Sums, samples: int) -> dict[str, Any]:
        """What is more than a number: a confusion matrix, figures for each class. Plain types."""
        return {}

    def classes(self, output: Any, targets: Any) -> int | None:
        """How many classes the labels may be of; None where labels are none."""
        return None


def less_is_better_of(task: type[Task], metric: str) -> bool | None:
    """Whether less of a metric is better: as the task's class says, or the nearest of its bases; None: none of them does."""
    return next((less for name, less in _directions(task) if name == metric), None)


def no_direction(task: type[Task], metric: str) -> str:
    """What to say of a metric that is to be watched, where it is not known which way it should go."""
    near = did_you_mean(metric, [name for name, _ in _directions(task)])
    return (
        f"task {task.__name__} does not say whether less or more of '{one_line(metric, 40)}' is better{near}; "
        "set train.monitor_mode to min or max, or name the metric in the class's lower_is_better or higher_is_better"
    )


def _directions(task: type[Task]) -> Iterator[tuple[str, bool]]:
    for base in task.__mro__:
        for attribute, less in (("lower_is_better", True), ("higher_is_better", False)):
            names = vars(base).get(attribute, ())
            yield from ((name, less) for name in ([names] if isinstance(names, str) else names))  # ("error") is a text
