"""A user's own data set, model and loss: configs/user_model.yaml names them as examples.spirals:Name."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Spirals:
    """Points on the arms of a spiral; which arm a point is on is its class.

    Any class with ``__len__`` and ``__getitem__`` -> ``(input, target)`` is a data set.

    Args:
        points: points on each arm.
        arms: classes.
        noise: standard deviation around the arm.
        seed: other points for each.
    """

    def __init__(self, points: int = 200, arms: int = 3, noise: float = 0.02, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        along = torch.rand(arms, points, generator=generator).sqrt()
        angle = 1.5 * math.pi * along + 2 * math.pi * torch.arange(arms).unsqueeze(1) / arms
        arm = along.unsqueeze(2) * torch.stack([angle.cos(), angle.sin()], dim=2)
        self.points = (arm + noise * torch.randn(arm.shape, generator=generator)).flatten(0, 1)
        self.targets = torch.arange(arms).repeat_interleave(points)
        self.classes = [f"arm {number}" for number in range(arms)]

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """A point (2,) and its arm."""
        return self.points[index], self.targets[index]


class SineNet(nn.Module):
    """Random sines of the point, then two linear layers (Rahimi and Recht, 2007: random features).

    Args:
        classes: outputs.
        features: sines and as many cosines.
        scale: standard deviation of their frequencies.
    """

    frequencies: Tensor

    def __init__(self, classes: int, features: int = 64, scale: float = 3.0) -> None:
        super().__init__()
        self.register_buffer("frequencies", scale * torch.randn(2, features))
        self.layers = nn.Sequential(nn.Linear(2 * features, features), nn.ReLU(), nn.Linear(features, classes))

    def forward(self, x: Tensor) -> Tensor:
        """Scores (n, classes) of points (n, 2)."""
        waves = x @ self.frequencies
        scores: Tensor = self.layers(torch.cat([waves.sin(), waves.cos()], dim=1))
        return scores


class FocalLoss(nn.Module):
    """Cross-entropy in which what is right already counts less (Lin et al., 2017); the mean over the samples.

    Args:
        gamma: 0 is cross-entropy; the greater, the less the easy samples count.
    """

    def __init__(self, gamma: float = 2.0) -> None:
        super().__init__()
        self.gamma = gamma

    def forward(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The loss of scores (n, classes) against class numbers (n,)."""
        log_p = scores.log_softmax(1).gather(1, targets.unsqueeze(1)).squeeze(1)
        return (-((1 - log_p.exp()) ** self.gamma) * log_p).mean()
