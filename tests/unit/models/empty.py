"""Large models without their weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode


class _NoNumbers(TorchFunctionMode):
    """Layers ask torch for empty tensors: those are made on the meta device, and all that reckons with numbers is left as it is."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.empty:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


def empty(build: Callable[[], nn.Module]) -> nn.Module:
    """What a function builds, its tensors nothing but shapes."""
    with _NoNumbers():
        model = build()
    return model.to("meta")
