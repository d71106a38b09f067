"""Small models for small images: they train in seconds on a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn


class MLP(nn.Module):
    """A multi-layer perceptron with ReLU; inputs of any shape are flattened.

    Args:
        in_features: numbers in one input, e.g. 64 for an 8×8 grey image.
        num_classes: outputs.
        hidden: width of the hidden layers; a list gives each layer's width.
        depth: number of hidden layers when ``hidden`` is one number.
        dropout: probability of dropping a hidden activation.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        hidden: Sequence[int] | int = 128,
        depth: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        widths = [in_features, *([hidden] * depth if isinstance(hidden, int) else hidden)]
        layers: list[nn.Module] = [nn.Flatten()]
        for width, following in pairwise(widths):
            layers += [nn.Linear(width, following), nn.ReLU(inplace=True), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], num_classes))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, num_classes) of inputs (N, …)."""
        logits: Tensor = self.layers(x)
        return logits


class CNN(nn.Module):
    """A small convolutional network with BatchNorm, for images from 8×8 to 32×32.

    Two stages of two 3×3 convolutions; the second stage has twice the channels at half the size. What is left is
    averaged, so that the same weights fit every image size.

    Args:
        in_channels: 1 for grey images, 3 for RGB.
        num_classes: outputs.
        width: channels of the first stage.
        dropout: probability of dropping a feature before the last layer.
    """

    def __init__(self, in_channels: int, num_classes: int, width: int = 32, dropout: float = 0.0) -> None:
        super().__init__()
        self.features = nn.Sequential(
            _convolution(in_channels, width),
            _convolution(width, width),
            nn.MaxPool2d(2),
            _convolution(width, 2 * width),
            _convolution(2 * width, 2 * width),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(2 * width, num_classes))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, num_classes) of images (N, in_channels, height, width)."""
        logits: Tensor = self.head(self.features(x))
        return logits


def _convolution(inputs: int, outputs: int) -> nn.Sequential:
    # No bias: BatchNorm's shift follows at once and would absorb it.
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))
