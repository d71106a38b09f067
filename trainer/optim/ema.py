"""An exponential moving average of a model's weights, for evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from trainer.errors import CheckpointError

State = dict[str, dict[str, Tensor]]


class Ema:
    """A shadow of a model: averaged parameters, and its buffers as they were at the last update.

    After each update of the model, ``shadow = decay * shadow + (1 - decay) * weight``, in float32 also where the weights are
    of a narrower type, whose rounding would swallow so small a change. Buffers (BatchNorm's statistics) are averages already.

    Args:
        model: the model itself, not DistributedDataParallel's wrapper; its weights at this moment are the start.
        decay: the share of the average that each update keeps.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self._parameters = {name: _wide(p.detach()).clone() for name, p in model.named_parameters()}
        self._buffers = {name: b.detach().clone() for name, b in model.named_buffers()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the model's weights, after the optimizer's step; one fused operation for all of them."""
        weights = [_wide(p) for p in model.parameters()]
        if weights:
            torch._foreach_lerp_(list(self._parameters.values()), weights, 1.0 - self.decay)
        _copy(list(self._buffers.values()), list(model.buffers()))

    @contextmanager
    def swapped_in(self, model: nn.Module) -> Iterator[None]:
        """Give the model the shadow's values inside the ``with`` block; its own come back after it, bit for bit.

        Values are copied rather than tensors exchanged: optimizer, DistributedDataParallel and CUDA graphs hold on to the tensors.
        """
        live = [*model.parameters(), *model.buffers()]
        own = [tensor.detach().clone() for tensor in live]
        try:
            _copy(live, [*self._parameters.values(), *self._buffers.values()])
            yield
        finally:
            _copy(live, own)

    def state_dict(self) -> State:
        """The shadow's own tensors by name, not copies of them."""
        return {"parameters": dict(self._parameters), "buffers": dict(self._buffers)}

    def load_state_dict(self, state: State) -> None:
        """Go on from a ``state_dict``.

        Raises:
            CheckpointError: it belongs to another model.
        """
        for kind, mine in self.state_dict().items():
            theirs = state[kind]
            for name in sorted(mine.keys() | theirs.keys()):
                here, there = (tuple(t[name].shape) if name in t else "missing" for t in (mine, theirs))
                if here != there:
                    raise CheckpointError(f"ema: {name} is {there} in the checkpoint, {here} in this model")
            _copy(list(mine.values()), [theirs[name] for name in mine])


def _wide(tensor: Tensor) -> Tensor:
    """The tensor itself if it is float32 or wider, else its values in float32."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


@torch.no_grad()
def _copy(into: list[Tensor], values: list[Tensor]) -> None:
    if into:
        torch._foreach_copy_(into, values)
