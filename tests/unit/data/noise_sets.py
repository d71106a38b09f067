"""Data sets whose samples depend on the generators and on the number of threads; loader workers import them from here."""

from __future__ import annotations

import random

import numpy as np
import torch
from numpy.typing import NDArray


class NoisySums:
    """Each sample is the sum of 224×224×3 random numbers: enough for torch to divide it among its threads."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.rand(150_528).sum(), index


class LockedNoisySums(NoisySums):
    """The same, and it cannot travel to a new process."""

    def __init__(self) -> None:
        self.draw = lambda: 0


class Switches(NoisySums):
    """Each sample tells the number of threads and the determinism switch where it is read."""

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.tensor([torch.get_num_threads(), torch.get_deterministic_debug_mode()]), index


class NoisyBatches:
    """A data set that reads whole batches and draws noise for them from all three generators."""

    def __len__(self) -> int:
        return 50

    def get_batch(self, indices: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        noise = torch.rand(len(indices), 1) + np.random.rand() + random.random()
        return noise, torch.from_numpy(indices)
