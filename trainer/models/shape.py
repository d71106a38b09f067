"""How a model is computed, not what: memory format, activations computed again, compilation, BatchNorm over all workers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from trainer.config.schema import TrainSection
from trainer.errors import ConfigError
from trainer.models.patterns import Patterns, as_list, modules_matching

Buffers = list[tuple[dict[str, Tensor | None], dict[str, Tensor | None]]]
"""Where each module keeps its buffers, and what they were."""


def shape_up(model: nn.Module, train: TrainSection, device: torch.device) -> nn.Module:
    """Apply ``train.sync_batchnorm``, ``channels_last``, ``recompute`` and ``compile``; names of parameters stay as they are.

    Args:
        model: on its device, with its first weights; no optimizer has been made from it.
        train: the config's section.
        device: where it is.

    Raises:
        ConfigError: something that the device or the model cannot do.
    """
    if train.sync_batchnorm:
        if device.type != "cuda":
            raise ConfigError("train.sync_batchnorm: it needs CUDA, and this is the CPU; leave it out")
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    if train.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # convolutions bring their inputs to the format of their weights
    if as_list(train.recompute):
        if train.compile:
            raise ConfigError("train.recompute: torch.compile decides itself what is computed again; leave out one of the two")
        recompute(model, train.recompute)
    if train.compile:
        model.compile()  # in place: the wrapper that torch.compile gives would rename every parameter
    return model


def recompute(model: nn.Module, patterns: Patterns) -> list[str]:
    """Let modules keep nothing for the backward pass, and compute their activations again there: the same bits in less memory.

    Args:
        model: its modules stay the same objects, under the same names.
        patterns: names of modules, with ``*``.

    Returns:
        The names of the modules.

    Raises:
        ConfigError: a pattern finds nothing.
    """
    found = modules_matching(model, patterns, "train.recompute")
    for name in found:
        module = model.get_submodule(name)
        module.forward = functools.partial(_forgetful, name, module, module.forward)
    return found


def _forgetful(name: str, module: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    before = _versions(args)
    # The generators are put back for the second pass: dropout drops the same.
    contexts = functools.partial(_contexts, module)
    output = checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=True, context_fn=contexts, **kwargs)
    if _versions(args) != before:
        raise ConfigError(f"train.recompute: {name} ({type(module).__name__}) changes its input in place, so it cannot be computed again")
    return output


def _versions(args: tuple[Any, ...]) -> list[int]:
    return [arg._version for arg in args if isinstance(arg, Tensor) and not arg.is_inference()]


def _contexts(module: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """For the first pass and the second: the second sees the buffers that the first one saw, and what it does to them is forgotten."""
    before: Buffers = []
    return _remembering(module, before), _with_buffers(before)


@contextmanager
def _remembering(module: nn.Module, before: Buffers) -> Iterator[None]:
    for inner in module.modules():
        if inner._buffers:
            before.append((inner._buffers, {name: None if b is None else b.detach().clone() for name, b in inner._buffers.items()}))
    yield


@contextmanager
def _with_buffers(before: Buffers) -> Iterator[None]:
    # Other tensors in their place, and not other values: the first pass may have saved the tensors themselves.
    own = [dict(place) for place, _ in before]
    try:
        for place, values in before:
            place.update(values)
        yield
    finally:
        for (place, _), values in zip(before, own, strict=True):
            place.update(values)
