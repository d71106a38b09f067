"""torchvision's classification models as attributes of this module: ``densenet121(num_classes=10)``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from torch import nn

from trainer.models.heads import build
from trainer.vision import import_torchvision

_models = import_torchvision().models
_names: tuple[str, ...] = tuple(_models.list_models(module=_models))


def __dir__() -> list[str]:
    return list(_names)


@functools.cache
def _builder(name: str) -> Callable[..., nn.Module]:
    def builder(num_classes: int = 1000, **kwargs: Any) -> nn.Module:
        return build(name, num_classes, **kwargs)

    builder.__name__ = builder.__qualname__ = name
    return builder


def __getattr__(name: str) -> Callable[..., nn.Module]:
    if name.startswith("_") or name not in _names:
        raise AttributeError(name)
    return _builder(name)
