"""Models and data that hang once: where a control file is, one rank removes it and does not come back. Without it they train."""

from __future__ import annotations

import os
import time
from pathlib import Path

import torch
import torch.distributed as dist

from tests.support.noisy import NoisyImages, NoisyNet


def taken(control: str, rank: int) -> bool:
    """Whether it is this rank's turn to hang."""
    if int(os.environ.get("RANK", "0")) != rank or not Path(control).exists():
        return False
    Path(control).unlink()
    return True


class Looping(NoisyNet):
    """An endless loop in the forward pass of one rank."""

    def __init__(self, control: str, rank: int = 1, call: int = 8) -> None:
        super().__init__()
        self.control, self.rank, self.call, self.calls = control, rank, call, 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.calls += self.training
        if self.calls == self.call and taken(self.control, self.rank):
            while True:
                pass
        return super().forward(images)


class Skipping(Looping):
    """A collective in each forward pass, which one rank leaves out once."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.calls += self.training
        if self.training and dist.is_initialized() and not (self.calls == self.call and taken(self.control, self.rank)):
            dist.all_reduce(torch.zeros(3))
        return NoisyNet.forward(self, images)


class StuckImages(NoisyImages):
    """A sample that cannot be read on one rank: the read does not return."""

    def __init__(self, control: str, rank: int = 1, reads: int = 60, size: int = 200) -> None:
        super().__init__(size)
        self.control, self.rank, self.reads, self.count = control, rank, reads, 0

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        self.count += 1
        if self.count == self.reads and taken(self.control, self.rank):
            while True:
                time.sleep(1)
        return super().__getitem__(index)
