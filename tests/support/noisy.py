"""A model and a data set in which everything that could part two runs takes part: BatchNorm, dropout, random augmentation."""

from __future__ import annotations

import os
import random
import time

import numpy as np
import torch
from torch import nn

from tests.support.slow import Slow


class NoisyImages:
    """Images with noise from python's, numpy's and torch's global generators; map-style."""

    def __init__(self, size: int = 200) -> None:
        generator = torch.Generator().manual_seed(1)
        self.images = torch.randn(size, 1, 8, 8, generator=generator)
        self.targets = torch.randint(4, (size,), generator=generator)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = self.images[index] * (1 + random.random()) + float(np.random.rand()) + 0.1 * torch.randn(1, 8, 8)
        return image, int(self.targets[index])


class LooseImages(NoisyImages):
    """The same with a generator of each process's own, as in many training scripts: a control that must not be exact."""

    def __init__(self, size: int = 200) -> None:
        super().__init__(size)
        self.own: random.Random | None = None

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        if self.own is None:
            self.own = random.Random(7)
        return self.images[index] * self.own.random(), int(self.targets[index])


class PoisonedImages(NoisyImages):
    """The same with some images that are NaN."""

    def __init__(self, bad: list[int], size: int = 200) -> None:
        super().__init__(size)
        self.images[bad] = torch.nan


class SlowImages(NoisyImages):
    """The same; each takes its time, as with `Slow`, and in later turns of a Slurm job `later` where that is said."""

    def __init__(self, seconds: float, size: int = 200, later: float | None = None, free: int = 0, until: str | None = None) -> None:
        super().__init__(size)
        again = int(os.environ.get("SLURM_RESTART_COUNT", "0")) > 0
        self.slow = Slow(later if later is not None and again else seconds, free, until)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        self.slow()
        return super().__getitem__(index)


class NoisyNet(nn.Sequential):
    """A small CNN with BatchNorm and dropout, large enough for several DDP buckets after the first step."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Dropout2d(0.1),
            nn.Conv2d(16, 32, 3, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(128, 64),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Linear(64, 4),
        )


class OnASlowDisk(NoisyNet):
    """The same; where it trains, a file takes its time to reach the disk. A checkpoint is several files."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        fsync = os.fsync

        def slow(descriptor: int) -> None:
            time.sleep(seconds)
            fsync(descriptor)

        os.fsync = slow


class Unrepeatable(NoisyNet):
    """A model with an operation that torch has no deterministic implementation of, in evaluation only."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        scores = super().forward(images)
        if not self.training:
            scores = torch.zeros_like(scores).put_(torch.arange(scores.numel()), scores.reshape(-1))
        return scores


class Exploding(NoisyNet):
    """A model whose output is beyond the range of float32, on every processor, from the first step on."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images) * 1e30 * 1e30


class Cornered(NoisyNet):
    """A model whose loss is finite and whose gradient is not: the square root of zero, from the third training step on."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        scores = super().forward(images)
        self.calls += self.training
        return scores + (scores * 0.0).sqrt() if self.calls > 2 else scores


class Clumsy(NoisyNet):
    """A model whose code has a mistake."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images[:, 5])


class Rebinding(NoisyNet):
    """A model that puts a new tensor in its buffer's place."""

    persistent = True

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()), persistent=self.persistent)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * images.detach().mean()
        return super().forward(images - self.mean)


class Forgetful(Rebinding):
    """The same with a buffer that ``state_dict`` leaves out."""

    persistent = False


class Dreaming(NoisyNet):
    """A model that draws random numbers in evaluation, too."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images + 0.1 * torch.randn(images.shape))


class NoisyBatches(NoisyImages):
    """A set that reads whole batches, and draws for each."""

    def get_batch(self, indices: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        rows = torch.from_numpy(indices)
        return self.images[rows] + torch.randn(len(rows), 1, 8, 8), self.targets[rows]


class Idle(NoisyNet):
    """A model with a layer that its forward pass does not use."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = list(self)
        self.spare = nn.Linear(4, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            images = layer(images)
        return images


class ChannelsLast(NoisyNet):
    """The same with its convolutions' weights in another order of memory."""

    def __init__(self) -> None:
        super().__init__()
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
