"""torchvision's classification models by name, and where the head of a model is, whatever it is called."""

from __future__ import annotations

from typing import Any

from torch import nn

from trainer.errors import ConfigError
from trainer.vision import import_torchvision

# What models call their last part; those of Inception and GoogLeNet besides the last one help in training only.
_CALLED = ("AuxLogits", "aux1", "aux2", "fc", "classifier", "head", "heads")


def build(name: str, num_classes: int = 1000, **kwargs: Any) -> nn.Module:
    """Build one of torchvision's classification models with a head of ``num_classes`` outputs.

    Inception and GoogLeNet give a single output, as all the others do, unless ``aux_logits: true`` asks for the auxiliary ones too:
    then the output in training is a tuple, which needs a task of its own.

    Args:
        name: its name in ``torchvision.models``.
        num_classes: outputs.
        kwargs: anything else that torchvision's function takes.

    Raises:
        ConfigError: pretrained weights are asked for here.
    """
    refuse_weights(kwargs)
    if name in ("inception_v3", "googlenet"):
        # Left unsaid, init_weights is true as well, with a warning that it takes long.
        kwargs = {"aux_logits": False, "init_weights": True, **kwargs}
    models = import_torchvision().models
    builder = getattr(models, name, None) or getattr(models.video, name)
    model: nn.Module = builder(num_classes=num_classes, **kwargs)
    return called(model, name)


def refuse_weights(kwargs: dict[str, Any]) -> None:
    """Pretrained weights have a place of their own.

    Raises:
        ConfigError: they stand among the model's arguments.
    """
    for argument in ("weights", "pretrained"):
        if kwargs.pop(argument, None):
            raise ConfigError(f"model.{argument}: pretrained weights are named in another place; write start.pretrained: DEFAULT")


def called(model: nn.Module, name: str) -> nn.Module:
    """Note a model's name in torchvision's zoo, by which its pretrained weights are found."""
    model.zoo_name = name  # type: ignore[assignment]
    return model


def zoo_name(model: nn.Module) -> str | None:
    """The name that `called` noted."""
    found = getattr(model, "zoo_name", None)
    return found if isinstance(found, str) else None


def head_names(model: nn.Module) -> list[str]:
    """The names of a model's last layers, those that give the outputs; of a model that is one layer, the empty name.

    In each part that is called as heads are (``fc``, ``classifier``, ``head``, …) it is the last linear layer or convolution; without
    such a part the model's last linear layer.
    """
    found = []
    for part in _CALLED:
        module = getattr(model, part, None)
        if isinstance(module, nn.Module) and (layers := _layers(module, part)):
            found.append(layers[-1])
    if found:
        return found
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    return linear[-1:]


def _layers(module: nn.Module, prefix: str) -> list[str]:
    return [name for name, layer in module.named_modules(prefix=prefix) if isinstance(layer, (nn.Linear, nn.Conv2d, nn.Conv3d))]
