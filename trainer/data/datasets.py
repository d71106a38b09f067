"""Data sets by short name: digits and arrays in memory, torchvision's files on disk, and made-up images for trials.

Those in memory have ``get_batch(indices) -> (inputs, targets)``: the loader reads a whole micro-batch in one call.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.data.order import permute
from trainer.data.vision_sets import cifar10, cifar100, fashion_mnist, image_folder, mnist
from trainer.errors import TrainingError
from trainer.seed import mix

__all__ = ["ArrayDataset", "Digits", "FakeImages", "cifar10", "cifar100", "fake_data", "fashion_mnist", "image_folder", "mnist"]


class ArrayDataset:
    """Inputs and targets held in two tensors.

    Args:
        inputs: shape (n, …).
        targets: shape (n, …).
    """

    def __init__(self, inputs: torch.Tensor, targets: torch.Tensor) -> None:
        if len(inputs) != len(targets):
            raise TrainingError(f"{len(inputs)} inputs and {len(targets)} targets; a data set needs as many of both")
        self.inputs = inputs
        self.targets = targets

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """One input and its target."""
        return self.inputs[index], self.targets[index]

    def get_batch(self, indices: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        """Many inputs and their targets, shapes (m, …)."""
        rows = torch.from_numpy(indices)
        return self.inputs.index_select(0, rows), self.targets.index_select(0, rows)


class Digits(ArrayDataset):
    """1,797 handwritten digits, 8×8 pixels, that come with scikit-learn: nothing to download.

    Inputs are float32 (1, 8, 8) in [0, 1]; targets are 0 … 9.

    Args:
        split: which part; the parts share no sample.
        valid_fraction: the share of the valid part.
        test_fraction: the share of the test part.
        seed: which samples go where; the job's seed plays no part in it.
    """

    def __init__(
        self, split: Literal["train", "valid", "test"] = "train", valid_fraction: float = 0.15, test_fraction: float = 0.15, seed: int = 0
    ) -> None:
        table = _digits_table()
        n = len(table)
        test, valid = round(n * test_fraction), round(n * valid_fraction)
        if min(test_fraction, valid_fraction) < 0 or test + valid > n:
            raise TrainingError(f"digits: fractions {valid_fraction} and {test_fraction} leave no training set; their sum must be below 1")
        parts = {"test": slice(0, test), "valid": slice(test, test + valid), "train": slice(test + valid, n)}
        if split not in parts:
            raise TrainingError(f"digits: there is no split {split!r}; use train, valid or test")
        mine = table[permute(np.arange(n), n, seed, 0)[parts[split]]]
        images = torch.from_numpy(mine[:, :64].astype(np.float32) / 16).reshape(-1, 1, 8, 8)
        super().__init__(images, torch.from_numpy(mine[:, 64].astype(np.int64)))
        self.classes = [str(digit) for digit in range(10)]


def _digits_table() -> NDArray[np.uint8]:
    """The file's rows, shape (1797, 65): 64 pixels of 0 … 16 and the digit. scikit-learn itself is not imported: that takes a second."""
    spec = find_spec("sklearn")
    if spec is None or not spec.submodule_search_locations:
        raise TrainingError("digits: scikit-learn, which carries the data, is not installed; pip install scikit-learn")
    path = Path(spec.submodule_search_locations[0], "datasets", "data", "digits.csv.gz")
    try:
        text = gzip.decompress(path.read_bytes()).decode("ascii")
    except (OSError, EOFError) as error:
        raise TrainingError(f"digits: {path} cannot be read: {error}; reinstall scikit-learn") from error
    return np.array(text.replace("\n", ",").rstrip(",").split(","), dtype=np.float64).astype(np.uint8).reshape(-1, 65)


class FakeImages:
    """Made-up images that can be learned: each class has its pattern, each sample its noise. Nothing is stored for a sample.

    Args:
        size: samples.
        image_size: (channels, height, width).
        num_classes: classes.
        seed: another set for each.
    """

    def __init__(self, size: int = 1000, image_size: Sequence[int] = (3, 32, 32), num_classes: int = 10, seed: int = 0) -> None:
        self.size = size
        self.image_size = tuple(image_size)
        self.classes = [str(number) for number in range(num_classes)]
        generator = torch.Generator().manual_seed(mix(seed) >> 1)
        self._pixels = math.prod(self.image_size)
        self._patterns = torch.randn(num_classes, self._pixels, generator=generator)
        # A sample's noise is a stretch of one tape that starts at its own place: drawing it would cost more than training on it.
        self._tape = torch.randn(self._pixels + 65536, generator=generator)
        self._key = mix(seed, 1)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """One image and its class."""
        if not 0 <= index < self.size:
            raise IndexError(index)
        images, targets = self.get_batch(np.array([index]))
        return images[0], targets[0]

    def get_batch(self, indices: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (m, channels, height, width) and their classes (m,)."""
        keys = [mix(self._key, index) for index in indices.tolist()]
        targets = torch.tensor([key % len(self.classes) for key in keys])
        starts = torch.tensor([(key >> 32) % 65536 for key in keys])
        noise = self._tape.unfold(0, self._pixels, 1)[starts]
        return self._patterns[targets].add_(noise).reshape(-1, *self.image_size), targets


def fake_data(size: int = 1000, image_size: Sequence[int] = (3, 32, 32), num_classes: int = 10, seed: int = 0) -> FakeImages:
    """Made-up images for trials and benchmarks; see `FakeImages`."""
    return FakeImages(size, image_size, num_classes, seed)
