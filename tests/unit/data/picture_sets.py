"""Data sets of small pictures; loader workers import them from here."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

SIZE = 32


class Pictures:
    """PIL images with noise in every pixel: nothing that moves, turns or colours them leaves them as they were."""

    classes = ("even", "odd")

    def __init__(self, size: int = 12, mode: str = "RGB") -> None:
        self.size = size
        self.mode = mode

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[Any, int]:
        from PIL import Image

        if not 0 <= index < self.size:
            raise IndexError(index)
        pixels = np.random.Generator(np.random.PCG64(index)).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
        return Image.fromarray(pixels).convert(self.mode), index % 2


class Brighter:
    """A transform of somebody's own that acts on one image and on many."""

    def __init__(self, by: float) -> None:
        self.by = by

    def __call__(self, image: Any) -> torch.Tensor:
        return image + self.by

    def whole_batch(self, images: torch.Tensor) -> torch.Tensor:
        return images + self.by
