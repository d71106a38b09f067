"""Data sets that tests hand to real loaders, also in other processes."""

from __future__ import annotations

import random
import time

import numpy as np
import torch


class Dice:
    """A data set that draws from python's, numpy's and torch's global generators for each sample."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.tensor([random.random(), np.random.rand(), torch.rand(()).item()], dtype=torch.float64), index


class Broken(Dice):
    """A data set one of whose samples cannot be read."""

    def __init__(self, size: int, bad: int) -> None:
        super().__init__(size)
        self.bad = bad

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        if index == self.bad:
            raise ValueError("the file is torn\nand this is a second line")
        return super().__getitem__(index)


class Slow(Dice):
    """A data set that hangs on its last sample."""

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        if index == self.size - 1:
            time.sleep(3600)
        return super().__getitem__(index)


class Unpicklable(Dice):
    """A data set that cannot travel to a new process."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.draw = lambda: random.random()
