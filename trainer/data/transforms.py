"""Transforms of inputs, in plain torch: a list of callables in front of a data set."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from trainer.data.names import pair

# torchvision transforms that refuse a PIL image; one in front of them becomes a tensor first.
_TENSOR_ONLY = frozenset({"Normalize", "LinearTransformation", "GaussianNoise"})


class ToTensor:
    """A PIL image or a uint8 array (height, width[, channels]) as a float32 tensor (channels, height, width) in [0, 1]."""

    def __call__(self, image: Any) -> torch.Tensor:
        """Convert one image; a tensor is only converted to float32."""
        if isinstance(image, torch.Tensor):
            return image.float() / 255 if image.dtype == torch.uint8 else image.float()
        if is_pil(image) and image.mode in ("1", "P", "CMYK", "YCbCr"):
            image = image.convert("L" if image.mode == "1" else "RGB")
        pixels = torch.from_numpy(np.array(image))
        scale = 255.0 if pixels.dtype == torch.uint8 else 65535.0 if pixels.dtype in (torch.uint16, torch.int32) else 1.0
        pixels = pixels.float() / scale
        return pixels.unsqueeze(0) if pixels.ndim == 2 else pixels.permute(2, 0, 1).contiguous()


class TransformList:
    """Callables applied one after the other.

    A PIL image becomes a tensor where it must: before a transform that takes tensors only, and at the end.

    Args:
        transforms: each takes an input and gives the next one.
    """

    def __init__(self, transforms: Sequence[Callable[[Any], Any]]) -> None:
        self.transforms = list(transforms)
        self._to_tensor = ToTensor()
        self._tensor_only = [type(transform).__name__ in _TENSOR_ONLY for transform in self.transforms]

    def __call__(self, value: Any) -> Any:
        """Apply them all to one input."""
        for transform, tensor_only in zip(self.transforms, self._tensor_only, strict=True):
            if tensor_only and is_pil(value):
                value = self._to_tensor(value)
            value = transform(value)
        return self._to_tensor(value) if is_pil(value) else value

    def __len__(self) -> int:
        return len(self.transforms)


class Transformed:
    """A data set whose inputs go through transforms; targets stay as they are.

    Args:
        dataset: map-style: ``len(d)`` and ``d[i]`` -> ``(input, target)``.
        transforms: applied to each input; without any, only PIL images become tensors.
    """

    def __init__(self, dataset: Any, transforms: Sequence[Callable[[Any], Any]] | TransformList = ()) -> None:
        self.dataset = dataset
        self.transforms = transforms if isinstance(transforms, TransformList) else TransformList(transforms)
        if hasattr(dataset, "classes"):
            self.classes = dataset.classes

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """The transformed input and its target."""
        sample = self.dataset[index]
        value, target = sample if type(sample) is tuple and len(sample) == 2 else pair(sample)
        return self.transforms(value), target


def with_transforms(dataset: Any, transforms: Sequence[Callable[[Any], Any]] = ()) -> Any:
    """The data set behind its transforms; itself where there are none and it reads whole batches (its fast path)."""
    if not transforms and hasattr(dataset, "get_batch"):
        return dataset
    return Transformed(dataset, transforms)


def is_pil(value: Any) -> bool:
    """Whether a value is a PIL image; PIL is not imported for the question."""
    image = sys.modules.get("PIL.Image")
    return image is not None and isinstance(value, image.Image)
