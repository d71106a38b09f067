"""``in_memory``: a data set of images read once into one tensor, whose transforms act on a whole micro-batch at a time.

For small images the work of a call is more than that on its pixels, so this is many times faster than image by image. The results have
the same distribution, not the same bits: what is random is drawn once a micro-batch for all of its samples, keyed by its first sample.
A micro-batch is the plan's, so the bits are the same for any number of workers and loader workers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.data.datasets import ArrayDataset
from trainer.data.keys import EVALUATION, sample_keys, seed_sample
from trainer.data.names import name_of, pair, reason, said, size_of
from trainer.data.transforms import ToTensor, TransformList, takes_tensors_only, torchvision_v2
from trainer.errors import ConfigError, TrainingError

Images = torch.Tensor
Form = Callable[[Images], Images]


class InMemory(ArrayDataset):
    """All samples of a data set in two tensors: images as they come, uint8 or float (n, channels, height, width).

    Each sample is read once, here; every worker's process holds the set.

    Args:
        of: a data set, or a mapping with its ``target`` and arguments.
    """

    in_memory = True

    def __init__(self, of: Any) -> None:
        of = _made(of)
        super().__init__(*_read(of))
        if hasattr(of, "classes"):
            self.classes = of.classes


class WholeBatches:
    """A data set that is in memory, behind transforms in their form for whole batches.

    Args:
        dataset: has ``get_batch(indices)``.
        forms: each takes and gives images, (n, channels, height, width).
    """

    def __init__(self, dataset: Any, forms: Sequence[Form]) -> None:
        self.dataset = dataset
        self.forms = list(forms)
        if hasattr(dataset, "classes"):
            self.classes = dataset.classes

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """One sample, as a batch of one gives it."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        images, targets = self.get_batch(np.array([index]))
        return images[0], targets[0]

    def get_batch(self, indices: NDArray[np.int64]) -> tuple[Any, Any]:
        """Transformed images (m, channels, height, width) and their targets (m, …)."""
        images, targets = self.dataset.get_batch(indices)
        for form in self.forms:
            images = form(images)
        return images, targets


def whole_batch(dataset: Any, transforms: Sequence[Callable[[Any], Any]] = ()) -> WholeBatches:
    """A data set in memory behind its transforms, which act on whole micro-batches; uint8 images become float32 in [0, 1] at the end.

    Args:
        dataset: has ``get_batch(indices)``.
        transforms: as for `trainer.data.transforms.with_transforms`; one of your own takes part by a method ``whole_batch(images)``.

    Raises:
        ConfigError: names the transforms that have no form for whole batches.
    """
    unknown = [type(transform).__name__ for transform in _flat(transforms) if _form(transform) is None]
    if unknown:
        raise ConfigError(
            f"in_memory: {', '.join(dict.fromkeys(unknown))} cannot act on whole batches; leave in_memory out, "
            f"or use these: {', '.join((*_FORMS, *_ANY_BATCH, 'Cutout', 'ToTensor'))}, or a class with whole_batch(images)"
        )
    forms: list[Form] = []
    for transform in _flat(transforms):
        form = _form(transform)
        assert form is not None
        forms += [_pixels_to_numbers, form] if takes_tensors_only(transform) else [form]
    return WholeBatches(dataset, [*forms, _pixels_to_numbers])


def _flat(transforms: Sequence[Any]) -> list[Any]:
    """The transforms, lists of them (the ready sets) taken apart."""
    nested = [_flat(t.transforms) if isinstance(t, TransformList) else [t] for t in transforms]
    return [transform for part in nested for transform in part]


def _form(transform: Any) -> Form | None:
    """How a transform acts on a whole batch; None: no such form is known."""
    own = getattr(transform, "whole_batch", None)
    if callable(own):
        return own  # type: ignore[no-any-return]
    name = type(transform).__name__
    if _is_vision(transform, name) and name in _FORMS:
        return _FORMS[name](transform)
    if _is_vision(transform, name) and name in _ANY_BATCH:
        return transform  # type: ignore[no-any-return]
    return None


def _is_vision(transform: Any, name: str) -> bool:
    kind = type(transform)
    return kind.__name__ == name and kind.__module__.startswith("torchvision.transforms.v2")


def _pixels_to_numbers(images: Images) -> Images:
    """What becomes of a PIL image in front of a transform that takes tensors, and at the end."""
    return ToTensor()(images) if images.dtype == torch.uint8 else images


def _as_it_is(images: Images) -> Images:
    return images


class _Crop:
    """torchvision's RandomCrop, each image at its own place."""

    def __init__(self, crop: Any) -> None:
        self.size: tuple[int, int] = tuple(crop.size)
        left, right, top, bottom = crop.padding or (0, 0, 0, 0)  # torchvision keeps them in this order
        self.left, self.right, self.top, self.bottom = left, right, top, bottom
        self.if_needed, self.fill, self.mode = crop.pad_if_needed, crop.fill, crop.padding_mode

    def __call__(self, images: Images) -> Images:
        height, width = self.size
        images = self._padded(images)
        below, beside = images.shape[-2] - height, images.shape[-1] - width
        if below < 0 or beside < 0:
            raise TrainingError(f"RandomCrop: size {height}×{width} is larger than an image of {images.shape[-2]}×{images.shape[-1]}")
        n = len(images)
        tops, lefts = torch.randint(0, below + 1, (n,)), torch.randint(0, beside + 1, (n,))
        # A view of every possible crop; only the chosen ones are copied.
        crops: Images = images.unfold(-2, height, 1).unfold(-2, width, 1)[torch.arange(n), :, tops, lefts]
        return crops

    def _padded(self, images: Images) -> Images:
        sides = [self.left, self.top, self.right, self.bottom]
        if self.if_needed:
            for place, (have, wanted) in enumerate(zip(reversed(images.shape[-2:]), reversed(self.size), strict=True)):
                missing = max(wanted - have - sides[place] - sides[place + 2], 0)
                sides[place], sides[place + 2] = sides[place] + missing, sides[place + 2] + missing
        if not any(sides):
            return images
        padded: Images = torchvision_v2().functional.pad(images, sides, fill=self.fill, padding_mode=self.mode)
        return padded


class _Flip:
    """torchvision's RandomHorizontalFlip and RandomVerticalFlip, each image by itself."""

    def __init__(self, p: float, dimension: int) -> None:
        self.p, self.dimension = p, dimension

    def __call__(self, images: Images) -> Images:
        flipped = (torch.rand(len(images)) < self.p).view(-1, *[1] * (images.ndim - 1))
        return torch.where(flipped, images.flip(self.dimension), images)


_FORMS: dict[str, Callable[[Any], Form]] = {
    "RandomCrop": _Crop,
    "RandomHorizontalFlip": lambda transform: _Flip(transform.p, -1),
    "RandomVerticalFlip": lambda transform: _Flip(transform.p, -2),
    "ToImage": lambda transform: _as_it_is,
}
# torchvision's that draw nothing and treat each image of a batch as if it were alone.
_ANY_BATCH = ("Normalize", "CenterCrop", "Pad")


def _made(of: Any) -> Any:
    """The data set itself."""
    if not isinstance(of, dict):
        return of
    if not isinstance(of.get("target"), str):
        raise ConfigError("in_memory: 'of' is a data set: a mapping with a target, such as {target: cifar10, root: data}")
    from trainer.data.vision_sets import make_set
    from trainer.registry import resolve

    called, arguments = resolve("dataset", of["target"]), {name: value for name, value in of.items() if name != "target"}
    try:
        return make_set(called, arguments)
    except (TypeError, ValueError) as fault:
        raise ConfigError(f"in_memory: dataset {of['target']}: {fault}") from fault


def _read(dataset: Any) -> tuple[Images, torch.Tensor]:
    """All images and targets of a data set."""
    n = size_of(dataset)
    if hasattr(dataset, "get_batch"):
        images, targets = dataset.get_batch(np.arange(n))
    else:
        images, targets = _arrays(dataset, n) or _one_by_one(dataset, n)
    if not isinstance(images, torch.Tensor) or images.ndim != 4:
        kind = _kind(images) if isinstance(images, torch.Tensor) else type(images).__name__
        raise TrainingError(f"in_memory: {name_of(dataset)} holds no images (n, channels, height, width), but {kind}; leave in_memory out")
    return images.contiguous(), targets


def _arrays(dataset: Any, n: int) -> tuple[Images, torch.Tensor] | None:
    """The arrays in which torchvision's small data sets keep their images; None: it has none, or they are not what it gives."""
    data = getattr(dataset, "data", None)
    labels = next((getattr(dataset, name) for name in ("targets", "labels") if hasattr(dataset, name)), None)
    if not isinstance(data, (np.ndarray, torch.Tensor)) or labels is None or len(data) != n or len(labels) != n:
        return None
    images, targets = torch.as_tensor(data), torch.as_tensor(np.asarray(labels), dtype=torch.int64)
    if images.dtype != torch.uint8 or targets.ndim != 1:
        return None
    if images.ndim == 3:
        images = images.unsqueeze(1)
    elif images.ndim == 4 and images.shape[-1] in (1, 3, 4):
        images = images.permute(0, 3, 1, 2)
    for index in {0, n // 2, n - 1}:
        image, target = pair(dataset[index])
        if int(target) != targets[index] or not torch.equal(_pixels(image), images[index]):
            return None
    return images, targets


def _one_by_one(dataset: Any, n: int) -> tuple[Images, torch.Tensor]:
    """Read every sample; what a data set draws is a function of the sample's number, so that all workers hold the same."""
    images: Images | None = None
    targets = []
    for index, key in enumerate(sample_keys(np.arange(n), 0, EVALUATION).tolist()):
        seed_sample(key)
        try:
            value, target = pair(dataset[index])
            value = _pixels(value)
        except Exception as error:
            line = f"in_memory: {name_of(dataset)}: {said(dataset, index, error)} cannot be read: {reason(error)}"
            raise TrainingError(line) from error
        if images is None:
            images = torch.empty((n, *value.shape), dtype=value.dtype)
        if value.shape != images.shape[1:] or value.dtype != images.dtype:
            what = f"{said(dataset, index)} is {_kind(value)}, the first one {_kind(images[0])}; all must be alike"
            raise TrainingError(f"in_memory: {name_of(dataset)}: {what}, or leave in_memory out")
        images[index] = value
        targets.append(target)
    assert images is not None
    return images, torch.utils.data.default_collate(targets)


def _kind(value: torch.Tensor) -> str:
    return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"


def _pixels(image: Any) -> Images:
    """One image (channels, height, width), uint8 where it is a PIL image of 8 bits."""
    if isinstance(image, torch.Tensor):
        return image
    number = ToTensor()(image)
    pixels = (number * 255).round()
    return pixels.to(torch.uint8) if torch.equal(pixels / 255, number) else number
