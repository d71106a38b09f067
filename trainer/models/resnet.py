"""torchvision's ResNets, with a stem for small images beside the one for ImageNet."""

from __future__ import annotations

from typing import Any, Literal

from torch import nn

from trainer.errors import ConfigError
from trainer.models.heads import called, refuse_weights
from trainer.vision import import_torchvision

Stem = Literal["imagenet", "cifar"]


def resnet18(num_classes: int = 1000, stem: Stem = "imagenet", **kwargs: Any) -> nn.Module:
    """ResNet-18; see ``build`` for the arguments."""
    return build("resnet18", num_classes, stem, kwargs)


def resnet34(num_classes: int = 1000, stem: Stem = "imagenet", **kwargs: Any) -> nn.Module:
    """ResNet-34; see ``build`` for the arguments."""
    return build("resnet34", num_classes, stem, kwargs)


def resnet50(num_classes: int = 1000, stem: Stem = "imagenet", **kwargs: Any) -> nn.Module:
    """ResNet-50; see ``build`` for the arguments."""
    return build("resnet50", num_classes, stem, kwargs)


def resnet101(num_classes: int = 1000, stem: Stem = "imagenet", **kwargs: Any) -> nn.Module:
    """ResNet-101; see ``build`` for the arguments."""
    return build("resnet101", num_classes, stem, kwargs)


def resnet152(num_classes: int = 1000, stem: Stem = "imagenet", **kwargs: Any) -> nn.Module:
    """ResNet-152; see ``build`` for the arguments."""
    return build("resnet152", num_classes, stem, kwargs)


def build(name: str, num_classes: int, stem: Stem, kwargs: dict[str, Any]) -> nn.Module:
    """Build one of torchvision's ResNets.

    Args:
        name: the function's name in ``torchvision.models``.
        num_classes: outputs.
        stem: ``imagenet`` is torchvision's: a 7×7 convolution of stride 2 and a max-pool, which leave 1/16 of the
            pixels. ``cifar`` is a 3×3 convolution of stride 1 and no pool, for images of about 32×32.
        kwargs: anything else that torchvision's function takes, e.g. ``zero_init_residual``.

    Raises:
        ConfigError: ``stem`` is neither of the two, or pretrained weights are asked for here.
    """
    refuse_weights(kwargs)
    if stem not in ("imagenet", "cifar"):
        raise ConfigError(f"model.stem: {stem!r} is unknown; use imagenet or cifar")
    model: nn.Module = getattr(import_torchvision().models, name)(num_classes=num_classes, **kwargs)
    if stem == "cifar":
        convolution = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1, bias=False)
        # As torchvision initialises every convolution of a ResNet.
        nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
        model.conv1 = convolution
        model.maxpool = nn.Identity()
    return called(model, name)
