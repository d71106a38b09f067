"""The outputs of a model's inner layers."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from torch import nn

from trainer.config.schema import Target
from trainer.errors import ConfigError
from trainer.models.patterns import modules_matching


class _AllSeen(Exception):
    """The last of the wanted layers has given its output; the rest of the model need not be computed."""


class FeatureExtractor(nn.Module):
    """A model that gives what some layers of another one give.

    Args:
        model: the other one; its parameters keep their names behind ``model.``.
        layers: the names of the layers, with ``*``.

    Raises:
        ConfigError: there is no such layer.
    """

    def __init__(self, model: nn.Module, layers: Sequence[str]) -> None:
        super().__init__()
        if not layers:
            raise ConfigError("model.layers: it names no layer; ostinato summary lists them")
        self.model = model
        self.layers = list(dict.fromkeys(name for pattern in layers for name in modules_matching(model, pattern, "model.layers")))
        self._seen: dict[str, Any] | None = None
        for name in self.layers:
            model.get_submodule(name).register_forward_hook(functools.partial(self._keep, name))

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The layer's output; of several layers a dict by name. What comes after the last one is not computed."""
        seen: dict[str, Any] = {}
        self._seen = seen
        try:
            self.model(*args, **kwargs)
        except _AllSeen:
            pass
        finally:
            self._seen = None  # a layer that is computed again in the backward pass calls its hook again
        missing = [name for name in self.layers if name not in seen]
        if missing:
            raise ConfigError(f"model.layers: {missing[0]} took no part in the forward pass; name one that does")
        return seen[self.layers[0]] if len(self.layers) == 1 else {name: seen[name] for name in self.layers}

    def _keep(self, name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        if self._seen is None:
            return
        self._seen[name] = output
        if len(self._seen) == len(self.layers):
            raise _AllSeen


def features(of: dict[str, Any], layers: list[str]) -> nn.Module:
    """What ``{target: features, of: {target: resnet18, …}, layers: [layer3, avgpool]}`` makes.

    Args:
        of: the model, a target with its arguments.
        layers: the names of its layers.

    Raises:
        ConfigError: the model or a layer is not to be had.
    """
    from trainer.registry import resolve

    if not isinstance(of, dict) or not isinstance(of.get("target"), str):
        raise ConfigError("model.of: must be a mapping with a target, such as {target: resnet18}")
    target = Target.model_validate(of)
    try:
        model = resolve("model", target.target)(**target.arguments)
    except (TypeError, ValueError) as fault:
        raise ConfigError(f"model.of {target.target}: {fault}") from fault
    return FeatureExtractor(model, layers)
