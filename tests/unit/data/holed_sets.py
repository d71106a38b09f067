"""Data sets with samples that cannot be read; loader workers import them from here."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tests.support.data_sets import Dice


class Holed(Dice):
    """Some samples cannot be read; each has a file, as torchvision's folders have."""

    def __init__(self, size: int, bad: set[int]) -> None:
        super().__init__(size)
        self.bad = bad
        self.samples = [(f"images/{number}.png", 0) for number in range(size)]

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        if index in self.bad:
            torch.rand(index)  # what is drawn before the fault must not move what is drawn after it
            raise OSError(f"image file is truncated ({index} bytes not processed)")
        return super().__getitem__(index)


class HoledBatches:
    """Reads whole batches, one of which it cannot."""

    def __len__(self) -> int:
        return 50

    def get_batch(self, indices: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        if 17 in indices:
            raise OSError("torn")
        return torch.zeros(len(indices), 1), torch.from_numpy(indices)


class Opens(Dice):
    """Opens a file that is not there."""

    def __getitem__(self, index: int) -> Any:
        with open(f"/nowhere/{index}.npy") as file:
            return file.read(), index


class Odd(Dice):
    """One sample is not like the others: ``odd`` stands in its place."""

    def __init__(self, size: int, at: int, odd: Any) -> None:
        super().__init__(size)
        self.at, self.odd = at, odd

    def __getitem__(self, index: int) -> Any:
        return self.odd if index == self.at else (torch.zeros(3, 2), index)


class Short(Dice):
    """Has fewer samples than it says."""

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        if index >= self.size - 5:
            raise IndexError(index)
        return super().__getitem__(index)


class Lengthless:
    """A stream: it has no length."""

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.zeros(1), index
