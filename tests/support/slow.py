"""Data that takes its time, so that a run is met where a test wants to meet it, however fast the machine is.

This file needs nothing else of the tests: a container can have it by itself.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch

from trainer.data.datasets import Digits


class Slow:
    """Waits each time it is called, but not the first times, and not any more once there is a file.

    Args:
        seconds: how long.
        free: so many calls, the first ones, do not wait.
        until: the file.
    """

    def __init__(self, seconds: float, free: int = 0, until: str | None = None) -> None:
        self.seconds, self.free, self.until = seconds, free, until

    def __call__(self) -> None:
        self.free -= 1
        if self.free >= 0:
            return
        end = time.monotonic() + self.seconds
        while (left := end - time.monotonic()) > 0 and not (self.until is not None and Path(self.until).exists()):
            time.sleep(min(left, 0.01))


class SlowDigits(Digits):
    """The digits for training; a micro-batch of them takes its time, as with `Slow`."""

    def __init__(self, seconds: float, free: int = 0, until: str | None = None) -> None:
        super().__init__("train")
        self.slow = Slow(seconds, free, until)

    def get_batch(self, indices: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        self.slow()
        return super().get_batch(indices)
