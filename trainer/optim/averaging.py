"""Stochastic weight averaging (Izmailov et al., 2018): the mean of the weights at the ends of some epochs, for evaluation."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from trainer.optim.ema import Ema, State


class Swa(Ema):
    """A shadow of a model: the running mean of its weights, taken once an epoch, in float32 or wider.

    It has the face of `Ema`. Before its first `update` it has nothing to offer, and `swapped_in` leaves the model as it is. The mean of
    several weights has no BatchNorm statistics: after each `update`, `refresh` computes them.

    Args:
        model: the model itself, not DistributedDataParallel's wrapper.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model, decay=0.0)
        self._count = {"epochs": torch.zeros((), dtype=torch.int64)}

    @property
    def count(self) -> int:
        """How many epochs' weights the mean is of."""
        return int(self._count["epochs"])

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the model's weights, at an epoch's end: ``mean + (weight - mean) / (count + 1)``."""
        shadow = list(self._parameters.values())
        weights = [p.to(mean.dtype) for p, mean in zip(model.parameters(), shadow, strict=True)]
        if weights:
            torch._foreach_lerp_(shadow, weights, 1.0 / (self.count + 1))
        for mine, theirs in zip(self._buffers.values(), model.buffers(), strict=True):
            mine.copy_(theirs)
        self._count["epochs"] += 1

    def refresh(
        self, model: nn.Module, batches: Iterable[Any], keep: Collection[str] = (), forward: Callable[[Any], Any] | None = None
    ) -> None:
        """Compute the BatchNorm statistics that belong to the mean; the model itself is as before afterwards.

        Args:
            model: the model.
            batches: as for `update_statistics`.
            keep: as for `update_statistics`.
            forward: as for `update_statistics`.
        """
        if not self.count:
            return
        with self.swapped_in(model):
            update_statistics(model, batches, keep, forward)
            with torch.no_grad():
                for mine, theirs in zip(self._buffers.values(), model.buffers(), strict=True):
                    mine.copy_(theirs)

    @contextmanager
    def swapped_in(self, model: nn.Module) -> Iterator[None]:
        """Give the model the mean inside the ``with`` block, once there is one."""
        if not self.count:
            yield
            return
        with super().swapped_in(model):
            yield

    def state_dict(self) -> State:
        """The shadow's own tensors by name, and how many epochs they are the mean of."""
        return {**super().state_dict(), "count": self._count}


@torch.no_grad()
def update_statistics(
    model: nn.Module, batches: Iterable[Any], keep: Collection[str] = (), forward: Callable[[Any], Any] | None = None
) -> None:
    """Compute BatchNorm's running statistics anew, each the plain mean over some batches.

    Only the BatchNorm layers are in training mode meanwhile: what they are given is what they will be given in evaluation, and nothing is
    drawn at random. The modes of all layers are as before afterwards.

    Args:
        model: the model.
        batches: inputs on the model's device. The same ones in the same order on every worker give the same bits on all of them.
        keep: names of the BatchNorm layers whose statistics stay as they are, because they are frozen.
        forward: gives the model a batch, where that is not its inputs alone.
    """
    norms = [m for name, m in model.named_modules() if isinstance(m, _BatchNorm) and m.track_running_stats and name not in keep]
    if not norms:
        return
    modes = {module: module.training for module in model.modules()}
    momenta: dict[_BatchNorm, float | None] = {norm: norm.momentum for norm in norms}
    try:
        model.eval()
        for norm in norms:
            norm.train()
            norm.reset_running_stats()
            norm.momentum = None  # the plain mean over all batches
        for batch in batches:
            (forward or model)(batch)
    finally:
        for norm, momentum in momenta.items():
            norm.momentum = momentum
        for module, training in modes.items():
            module.training = training
