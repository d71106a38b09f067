"""The tiny job that every contender trains: an MLP on tensors, so small that only the runner's own work shows."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

FEATURES, CLASSES, SAMPLES, BATCH = 32, 10, 16_384, 32


def arrays() -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs float32 (n, features) and targets int64 (n,)."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(SAMPLES, FEATURES, generator=generator)
    return inputs, torch.randint(CLASSES, (SAMPLES,), generator=generator)


class TinyMLP(nn.Sequential):
    """Two linear layers, 32 to 64 to 10."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(FEATURES, 64), nn.ReLU(), nn.Linear(64, CLASSES))


def tiny_data() -> Any:
    """The data set as ostinato's in-memory kind."""
    from trainer.data.datasets import ArrayDataset

    return ArrayDataset(*arrays())


class StampedSGD(torch.optim.SGD):
    """SGD that writes the time of its first step, and of each 100th, into the file named by STAMPS."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.count = 0
        path = os.environ.get("STAMPS")
        self.path = Path(f"{path}-{os.environ.get('RANK', 0)}") if path else None

    def step(self, closure: Any = None) -> Any:
        found = super().step(closure)
        self.count += 1
        if self.path is not None and (self.count == 1 or self.count % 100 == 0):
            with self.path.open("a") as file:
                file.write(f"{self.count} {time.time()}\n")
        return found


def read_stamps(path: Path, rank: int = 0) -> dict[int, float]:
    """Step -> time, from one rank's stamps."""
    lines = Path(f"{path}-{rank}").read_text().split("\n")
    return {int(step): float(when) for step, when in (line.split() for line in lines if line)}
