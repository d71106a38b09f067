"""torchvision's classification models, of images and of videos, as attributes of this module: ``densenet121(num_classes=10)``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from torch import nn

from trainer.models.heads import build
from trainer.vision import import_torchvision

_models = import_torchvision().models
_names: tuple[str, ...] = (*_models.list_models(module=_models), *_models.list_models(module=_models.video))
_OTHERS = {"detection": "detection", "segmentation": "segmentation", "optical_flow": "optical flow", "quantization": "inference alone"}


def __dir__() -> list[str]:
    return list(_names)


@functools.cache
def _builder(name: str) -> Callable[..., nn.Module]:
    def builder(num_classes: int = 1000, **kwargs: Any) -> nn.Module:
        return build(name, num_classes, **kwargs)

    builder.__name__ = builder.__qualname__ = name
    return builder


def elsewhere(name: str) -> str | None:
    """What to do about a model of torchvision's that is none for classification; None: it has no such model."""
    for part, purpose in _OTHERS.items():
        if name in _models.list_models(module=getattr(_models, part)):
            instead = (
                "" if part == "quantization" else f"; write torchvision.models.{part}:{name}, and name a task of your own for its outputs"
            )
            return f"{name} is torchvision's model for {purpose}, not for classification{instead}"
    return None


def __getattr__(name: str) -> Callable[..., nn.Module]:
    if name.startswith("_") or name not in _names:
        raise AttributeError(name)
    return _builder(name)
