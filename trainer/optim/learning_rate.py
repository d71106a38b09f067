"""Three kinds of schedule behind one face: a function of the step, a reaction to a metric, a scheduler of torch's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from trainer.optim.schedules import Plateau


class LearningRate:
    """A pure function of the step: nothing to save, nothing to restore.

    Args:
        optimizer: its groups' ``initial_lr`` are the base learning rates.
        factor: updates completed -> what the base learning rates are multiplied with.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, factor: Callable[[int], float]) -> None:
        self.optimizer, self.factor = optimizer, factor

    def apply(self, step: int) -> None:
        """Set each group's learning rate for the update after `step` updates."""
        factor = self.factor(step)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor

    def end_epoch(self, metric: float | None, less_is_better: bool) -> None:
        """Hear of an epoch's end.

        Args:
            metric: the watched metric's value; None where nothing was evaluated.
            less_is_better: the metric's direction.
        """

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a checkpoint's state back."""


class PlateauLearningRate(LearningRate):
    """Lowers the learning rate when the watched metric no longer improves."""

    def __init__(self, optimizer: torch.optim.Optimizer, plateau: Plateau, steps_per_epoch: int = 1) -> None:
        super().__init__(optimizer, lambda step: plateau.at(step, steps_per_epoch))
        self.plateau = plateau

    def end_epoch(self, metric: float | None, less_is_better: bool) -> None:
        """Show the metric to the plateau."""
        if metric is not None:
            self.plateau.observe(metric, less_is_better)

    def state_dict(self) -> dict[str, Any]:
        """The plateau's counters."""
        return dict(self.plateau.state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the counters back."""
        self.plateau.load_state_dict(state)


class TorchLearningRate(LearningRate):
    """A ``torch.optim.lr_scheduler`` by name, moved once an epoch.

    The scheduler must be made before the optimizer's state is loaded: its constructor writes the first learning rate into the optimizer.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, scheduler: torch.optim.lr_scheduler.LRScheduler) -> None:
        super().__init__(optimizer, lambda step: 1.0)
        self.scheduler = scheduler

    def apply(self, step: int) -> None:
        """Nothing: the scheduler has set the groups already."""

    def end_epoch(self, metric: float | None, less_is_better: bool) -> None:
        """Move the scheduler on."""
        self.scheduler.step()

    def state_dict(self) -> dict[str, Any]:
        """The scheduler's own state."""
        return dict(self.scheduler.state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the scheduler's state back."""
        self.scheduler.load_state_dict(state)
