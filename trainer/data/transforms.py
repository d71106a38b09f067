"""Transforms of inputs: a list of callables in front of a data set; torchvision's by name, and a few of our own in plain torch.

What they draw comes from the global generators, which are seeded for each sample before it is read: the same bits whoever reads it.
"""

from __future__ import annotations

import enum
import importlib
import inspect
import sys
import typing
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch

from trainer.config.explain import did_you_mean
from trainer.data.names import pair

# Transforms that refuse a PIL image, or count in the units of a tensor; one in front of them becomes a tensor first.
_TENSOR_ONLY = frozenset({"Normalize", "LinearTransformation", "GaussianNoise", "Cutout"})


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

    def whole_batch(self, images: torch.Tensor) -> torch.Tensor:
        """Convert many images, shape (n, …)."""
        return self(images)


class ToDtype:
    """An image as a tensor of another type, as torchvision's transform of this name; a PIL image becomes a tensor too.

    Args:
        dtype: the type, by name.
        scale: also map the old type's range of values to the new one's: 0 … 255 to 0 … 1.
    """

    def __init__(self, dtype: Literal["float32", "float16", "bfloat16", "float64", "uint8"] = "float32", scale: bool = False) -> None:
        self.dtype: torch.dtype = getattr(torch, dtype)
        self.scale = scale

    def __call__(self, image: Any) -> Any:
        """Convert one image."""
        functional = torchvision_v2().functional
        return functional.to_dtype(functional.to_image(image) if is_pil(image) else image, self.dtype, scale=self.scale)

    def whole_batch(self, images: torch.Tensor) -> torch.Tensor:
        """Convert many images, shape (n, …)."""
        converted: torch.Tensor = self(images)
        return converted


class Cutout:
    """Fills a square at a random place (DeVries & Taylor 2017, arXiv:1708.04552), after `Normalize` as a rule.

    The square's centre is any pixel of the image, so that part of it may lie outside.

    Args:
        pixels: the square's side: 16 for CIFAR-10, 8 for CIFAR-100.
        fill: what it is filled with, in the units that the tensor has there: 0 is the mean after `Normalize`, black before it.
    """

    def __init__(self, pixels: int = 16, fill: float = 0.0) -> None:
        if pixels < 1:
            raise ValueError(f"pixels is {pixels}; it must be 1 or more")
        self.pixels = pixels
        self.fill = fill

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """One image (channels, height, width) with its hole."""
        return self.whole_batch(image.unsqueeze(0))[0]

    def whole_batch(self, images: torch.Tensor) -> torch.Tensor:
        """Many images (n, channels, height, width), each with a hole at its own place."""
        n, (height, width) = len(images), images.shape[-2:]
        rows, columns = self._inside(height, n), self._inside(width, n)
        hole = (rows.unsqueeze(2) & columns.unsqueeze(1)).unsqueeze(1)
        return images.masked_fill(hole.to(images.device), self.fill)

    def _inside(self, length: int, n: int) -> torch.Tensor:
        """Which of `length` places belong to each of n stretches around a random place, bool (n, length)."""
        begin = torch.randint(0, length, (n, 1)) - self.pixels // 2
        places = torch.arange(length)
        return (places >= begin) & (places < begin + self.pixels)


class TransformList:
    """Callables applied one after the other.

    A PIL image becomes a tensor where it must: before a transform that takes tensors only, and at the end.

    Args:
        transforms: each takes an input and gives the next one.
    """

    def __init__(self, transforms: Sequence[Callable[[Any], Any]]) -> None:
        self.transforms = list(transforms)
        self._to_tensor = ToTensor()
        self._tensor_only = [takes_tensors_only(transform) for transform in self.transforms]

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
    """The data set behind its transforms; itself where there are none and it reads whole batches (its fast path).

    Raises:
        ConfigError: the data set is `in_memory`, and a transform has no form for whole batches.
    """
    if is_in_memory(dataset):
        from trainer.data.whole_batch import whole_batch

        return whole_batch(dataset, transforms)
    if not transforms and hasattr(dataset, "get_batch"):
        return dataset
    return Transformed(dataset, transforms)


def make_transform(called: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """Call a transform with arguments as YAML has them.

    An option of a fixed set (``interpolation``, ``policy``) is given as text, a tuple as a list, and a transform inside another
    (``RandomApply``, ``RandomChoice``) as a mapping with ``target``.

    Args:
        called: the transform's class.
        arguments: text, numbers, booleans, None, lists and mappings.

    Raises:
        ValueError: there is no such option, or the transform refuses its arguments.
        TypeError: the same.
        ConfigError: the target of an inner transform is wrong.
    """
    try:
        parameters = inspect.signature(called, eval_str=True).parameters
    except Exception:  # it has none, or an annotation is a name for the type checker alone
        parameters = {}  # type: ignore[assignment]
    made: dict[str, Any] = {}
    for name, value in arguments.items():
        parameter = parameters.get(name)
        made[name] = _inner(value) if parameter is None else _as_wanted(name, parameter, _inner(value))
    return called(**made)


def _inner(value: Any) -> Any:
    """A value whose mappings with a target are made into transforms."""
    if isinstance(value, list):
        return [_inner(entry) for entry in value]
    if isinstance(value, dict) and isinstance(value.get("target"), str):
        from trainer.registry import resolve

        return make_transform(resolve("transform", value["target"]), {name: v for name, v in value.items() if name != "target"})
    return value


def _as_wanted(name: str, parameter: inspect.Parameter, value: Any) -> Any:
    """A value as the parameter's annotation or default asks for it."""
    wanted = [option for option in (parameter.annotation, *typing.get_args(parameter.annotation)) if option is not parameter.empty]
    if isinstance(value, list) and any(typing.get_origin(option) is tuple for option in wanted):
        return tuple(value)
    if not isinstance(value, str):
        return value
    kinds = [option for option in (*wanted, type(parameter.default)) if isinstance(option, type) and issubclass(option, enum.Enum)]
    for member in (member for kind in kinds for member in kind):
        if value.lower() in (str(member.value).lower(), member.name.lower()):
            return member
    if kinds:
        known = [str(member.value) for member in kinds[0]]
        instead = did_you_mean(value, known) or f"; it can be {', '.join(known)}"
        raise ValueError(f"{name} is '{value}'{instead}")
    return value


def takes_tensors_only(transform: Any) -> bool:
    """Whether a PIL image must become a tensor in front of a transform."""
    return type(transform).__name__ in _TENSOR_ONLY


def is_in_memory(dataset: Any) -> bool:
    """Whether a data set, or what it is a part of, is `in_memory`: its transforms act on whole micro-batches."""
    while dataset is not None and hasattr(dataset, "get_batch"):
        if getattr(dataset, "in_memory", False):
            return True
        dataset = getattr(dataset, "dataset", None)
    return False


def is_pil(value: Any) -> bool:
    """Whether a value is a PIL image; PIL is not imported for the question."""
    image = sys.modules.get("PIL.Image")
    return image is not None and isinstance(value, image.Image)


def torchvision_v2() -> Any:
    """The module ``torchvision.transforms.v2``."""
    from trainer.vision import import_torchvision

    import_torchvision()
    return importlib.import_module("torchvision.transforms.v2")
