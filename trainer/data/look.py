"""What a data set is: sizes, classes and their balance, the numbers in it, samples that cannot be read."""

from __future__ import annotations

import collections
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from trainer.data.keys import EVALUATION, sample_keys, seed_sample
from trainer.data.labels import labels_of
from trainer.data.names import name_of, pair, reason, said, size_of
from trainer.data.order import permute
from trainer.data.pictures import as_picture
from trainer.errors import OstinatoError, TrainingError

SAMPLES = 1000
PICTURES = 16


@dataclass
class Facts:
    """What is known of one split."""

    name: str
    samples: int
    looked_at: int = 0
    """So many samples were read, spread over the set: the first ones of the first epoch."""
    shapes: dict[str, int] = field(default_factory=dict)
    """How many of them have each shape and type, the commonest first."""
    low: float | None = None
    high: float | None = None
    not_finite: int = 0
    """Samples with NaN or infinity in them."""
    mean: list[float] = field(default_factory=list)
    """Of each channel; of an input that has none, of all its numbers."""
    std: list[float] = field(default_factory=list)
    target: str = ""
    classes: dict[str, int] = field(default_factory=dict)
    """Samples of each class."""
    counted: str = ""
    """Where the classes were counted: all samples, or those looked at."""
    bad: list[str] = field(default_factory=list)
    """Samples that could not be read."""
    videos: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Look:
    """One split's facts, and some of its samples for the picture."""

    facts: Facts
    pictures: list[tuple[torch.Tensor, str]]


class _Sums:
    """Sums over inputs, by channel, in float64."""

    def __init__(self) -> None:
        self.sum: Any = 0.0
        self.square: Any = 0.0
        self.count = 0

    def add(self, value: torch.Tensor) -> None:
        channels = value.movedim(-3, 0).reshape(value.shape[-3], -1) if _channels(value) else value.reshape(1, -1)
        numbers = channels.double()
        if isinstance(self.sum, torch.Tensor) and len(self.sum) != len(numbers):
            return  # another number of channels, which the shapes tell
        self.sum, self.square = self.sum + numbers.sum(1), self.square + numbers.square().sum(1)
        self.count += numbers.shape[1]

    def close(self) -> tuple[list[float], list[float]]:
        if not self.count:
            return [], []
        mean = self.sum / self.count
        variance = (self.square / self.count - mean.square()).clamp(min=0)
        return mean.tolist(), variance.sqrt().tolist()


def look(dataset: Any, seed: int = 0, training: bool = True, limit: int = SAMPLES) -> Look:
    """Read some samples of a data set, as the trainer would read them.

    Args:
        dataset: map-style, behind its transforms.
        seed: the job's seed: it says which samples come first, and what their random transforms do.
        training: read them as in the first epoch; else as in an evaluation.
        limit: how many to read at most.

    Raises:
        TrainingError: the data set has no samples, or none that can be read.
    """
    n = size_of(dataset)
    facts = Facts(name_of(dataset), n)
    sums, shapes, targets = _Sums(), collections.Counter[str](), []
    pictures: list[tuple[torch.Tensor, str]] = []
    numbers = permute(np.arange(min(limit, n), dtype=np.int64), n, seed, 0)
    names = _class_names(dataset)
    for index, key in zip(numbers.tolist(), sample_keys(numbers, seed, 0 if training else EVALUATION).tolist(), strict=True):
        seed_sample(key)
        try:
            value, target = _read(dataset, index)
        except (MemoryError, OstinatoError):
            raise
        except Exception as error:
            facts.bad.append(f"{said(dataset, index, error)}: {reason(error)}")
            continue
        targets.append(target)
        shapes[_kind(value)] += 1
        if isinstance(value, torch.Tensor) and value.numel():
            _add(facts, sums, value)
            if len(pictures) < PICTURES and (picture := as_picture(value)) is not None:
                pictures.append((picture, _label(target, names)))
    facts.looked_at = len(numbers)
    if not targets:
        raise TrainingError(f"data set {facts.name}: not one of {len(numbers)} samples can be read; the first: {facts.bad[0]}")
    facts.shapes, facts.target = dict(shapes.most_common()), _kind(targets[0])
    facts.mean, facts.std = sums.close()
    _count_classes(facts, dataset, targets, names)
    facts.videos = _videos(dataset)
    return Look(facts, pictures)


def _read(dataset: Any, index: int) -> tuple[Any, Any]:
    if hasattr(dataset, "get_batch"):
        inputs, targets = dataset.get_batch(np.array([index]))
        return inputs[0], targets[0]
    value, target = pair(dataset[index])
    return torch.as_tensor(value) if isinstance(value, np.ndarray) else value, target


def _add(facts: Facts, sums: _Sums, value: torch.Tensor) -> None:
    """One input's range, and its part of mean and deviation; numbers of characters or words have a range only."""
    if value.is_complex():
        return
    if value.is_floating_point() and not bool(torch.isfinite(value).all()):
        facts.not_finite += 1
        return
    low, high = float(value.min()), float(value.max())
    facts.low = low if facts.low is None else min(facts.low, low)
    facts.high = high if facts.high is None else max(facts.high, high)
    if value.is_floating_point() or value.dtype == torch.uint8:
        sums.add(value)


def _channels(value: torch.Tensor) -> bool:
    """Whether a picture, or some pictures, in channels that lie third from the end."""
    return value.ndim >= 3 and value.shape[-3] <= 16


def _kind(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"{list(value.shape)} {str(value.dtype).removeprefix('torch.')}" if value.ndim else str(value.dtype).removeprefix("torch.")
    return type(value).__name__


def _class_names(dataset: Any) -> list[str]:
    return list(map(str, getattr(dataset, "classes", None) or []))


def _label(target: Any, names: list[str]) -> str:
    try:
        number = float(target)
    except (TypeError, ValueError):
        return ""
    if number == int(number) and 0 <= number < len(names):
        return names[int(number)]
    return f"{number:g}"


def _count_classes(facts: Facts, dataset: Any, read: list[Any], names: list[str]) -> None:
    """Samples of each class; from all labels where the data set has them at hand."""
    labels = labels_of(dataset)
    if labels is None or len(labels) != facts.samples:
        if not all(isinstance(target, int) or (isinstance(target, torch.Tensor) and target.ndim == 0) for target in read):
            return
        labels = np.array([float(target) for target in read])
        facts.counted = f"in the {len(read):,} that were read"
    if not len(labels) or (labels != np.floor(labels)).any():
        facts.counted = ""
        return  # numbers to predict
    found = collections.Counter(labels.astype(np.int64).tolist())
    order = sorted({*found, *range(len(names))}) if len(names) <= len(labels) else sorted(found)
    facts.classes = {names[number] if 0 <= number < len(names) else str(number): found[number] for number in order}
    facts.counted = facts.counted or "in all samples"


def _videos(dataset: Any) -> list[dict[str, Any]]:
    """The summary of videos, wherever behind the transforms they are."""
    while dataset is not None:
        if hasattr(dataset, "videos") and callable(getattr(dataset, "summary", None)):
            return list(dataset.summary())
        dataset = getattr(dataset, "dataset", None)
    return []
