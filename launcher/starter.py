"""What a first config says, from what is known of the data: facts in, decisions out. Nothing is opened, read or written here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from launcher.look_at_folder import Pictures
from launcher.starter_sets import KnownSet

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PRETRAINED = "resnet18-f37072fd.pth"
"""The weights of torchvision's ResNet-18, as they lie in torch's cache."""
_FEW = 1000  # pictures from which a large network learns nothing that a small one does not


@dataclass(frozen=True)
class Subject:
    """What is to be learnt from.

    Args:
        name: of the run.
        parts: the data sets as the config names them: train, and valid and test where there are some.
        counts: training pictures of each class, by name; validation not yet set aside.
        n_valid: validation pictures; None: a share of the training pictures must be.
        sizes: how many pictures have which (width, height).
        gray: no picture has a colour.
        mean: of each channel (one or three), in [0, 1].
        std: the same.
        mirror: a mirror image is of the same class, as far as one can guess.
        moved: so is one that is moved a little.
        own: files of one's own, which can be read gray or in colours, and of which some may be bad.
        bad: how many are known to be unreadable.
        unsure: not all were looked at in full.
    """

    name: str
    parts: Mapping[str, dict[str, Any]]
    counts: Mapping[str, int]
    n_valid: int | None
    sizes: Mapping[tuple[int, int], int]
    gray: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]
    mirror: bool = True
    moved: bool = True
    own: bool = False
    bad: int = 0
    unsure: bool = False

    @property
    def samples(self) -> int:
        """Training pictures, before any are set aside."""
        return sum(self.counts.values())

    @property
    def short(self) -> int:
        """The shorter side of the picture in the middle, by size."""
        sides = sorted(min(size) for size, count in self.sizes.items() for _ in range(count))
        return sides[len(sides) // 2]


@dataclass(frozen=True)
class Choice:
    """What the config says.

    Args:
        model: with its arguments.
        size: (height, width) that the model is given.
        resize: pictures must be brought to that size.
        channels: 1 or 3.
        mean: for Normalize.
        std: the same.
        valid_fraction: None: there is a validation set.
        batch_size: of the whole job.
        epochs: passes.
        lr: the learning rate at its highest.
        pretrained: weights that are at hand, or None.
        loader_workers: processes that read pictures.
        bad_samples: how many unreadable ones are passed over; 0: none is expected.
        by_loss: the validation loss chooses the best weights, not the accuracy.
        weights: for the loss, so that rare classes count as much; empty: the classes are alike.
    """

    model: dict[str, Any]
    size: tuple[int, int]
    resize: bool
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    valid_fraction: float | None
    batch_size: int
    epochs: int
    lr: float
    pretrained: str | None = None
    loader_workers: int = 0
    bad_samples: int = 0
    by_loss: bool = False
    weights: tuple[float, ...] = field(default=())


def of_folder(name: str, pictures: Pictures) -> Subject:
    """A folder of pictures as something to be learnt from."""
    train, valid = pictures.parts["train"], pictures.parts.get("valid")
    channels = 1 if pictures.gray else 3
    return Subject(
        name=name,
        parts={part: {"target": "image_folder", "root": found.folder} for part, found in pictures.parts.items()},
        counts=train.counts,
        n_valid=None if valid is None else sum(valid.counts.values()),
        sizes=pictures.sizes,
        gray=pictures.gray,
        mean=pictures.mean[:channels],
        std=pictures.std[:channels],
        mirror=not pictures.gray,  # gray pictures are often letters, digits or X-rays
        own=True,
        bad=len(pictures.bad),
        unsure=pictures.decoded < sum(pictures.sizes.values()),
    )


def of_set(name: str, known: KnownSet) -> Subject:
    """A data set with a name as something to be learnt from."""
    parts = known.parts()
    return Subject(
        name=name,
        parts=parts,
        counts={str(number): known.samples // known.classes for number in range(known.classes)},
        n_valid=known.samples // 5 if "valid" in parts else None,
        sizes={known.size: 1},
        gray=len(known.mean) == 1,
        mean=known.mean,
        std=known.std,
        mirror=known.mirror,
        moved=known.moved,
    )


def decide(subject: Subject, *, weights_at_hand: bool) -> Choice:
    """Decide on everything that a first config needs.

    Args:
        subject: what is known of the data.
        weights_at_hand: torchvision's ResNet-18 can be had without a network.
    """
    fraction = None if subject.n_valid is not None else 0.2 if subject.samples < 5000 else 0.1
    training = round(subject.samples * (1 - (fraction or 0)))
    n_valid = subject.n_valid if subject.n_valid is not None else subject.samples - training
    pretrained = PRETRAINED if weights_at_hand and subject.own and subject.short >= 64 else None
    size, resize = _size(subject, training, pretrained is not None)
    model = _model(subject, training, size, pretrained is not None)
    large = model["target"] != "cnn"
    mean, std = IMAGENET if pretrained else (subject.mean, subject.std)
    batch = batch_size(training)
    updates = 300 if pretrained or not large else 3000
    return Choice(
        model=model,
        size=size,
        resize=resize,
        channels=3 if large else len(subject.mean),
        mean=mean * 3 if large and len(mean) == 1 else mean,
        std=std * 3 if large and len(std) == 1 else std,
        valid_fraction=fraction,
        batch_size=batch,
        epochs=max(10, min(30 if large else 40, -(-updates // max(1, training // batch)))),
        lr=0.0005 if pretrained else 0.001 if large else 0.003,
        pretrained=pretrained,
        loader_workers=2 if subject.own and subject.short >= 200 else 0,
        bad_samples=(10 + 2 * subject.bad) if subject.own and (subject.bad or subject.unsure) else 0,
        by_loss=n_valid < 300,
        weights=class_weights(subject.counts),
    )


def batch_size(training: int) -> int:
    """A power of two that leaves some updates in each epoch; at least 2, for BatchNorm."""
    wanted = 8 if training < 64 else 16 if training < 400 else 32 if training < 5000 else 64 if training < 50_000 else 128
    while wanted > 2 and wanted * 3 > training:
        wanted //= 2
    return wanted


def class_weights(counts: Mapping[str, int]) -> tuple[float, ...]:
    """The inverse of each class's share, 1 on average over the pictures; empty unless one has three times as many as another."""
    if max(counts.values()) < 3 * min(counts.values()):
        return ()
    total = sum(counts.values())
    return tuple(round(total / (len(counts) * count), 3) for _, count in sorted(counts.items()))


def _size(subject: Subject, training: int, pretrained: bool) -> tuple[tuple[int, int], bool]:
    """(height, width) for the model, and whether pictures must be brought to it."""
    if pretrained:
        return (224, 224), True
    if len(subject.sizes) == 1 and max(next(iter(subject.sizes))) <= 40:
        (width, height) = next(iter(subject.sizes))
        return (height, width), False
    side = 32 if subject.short < 48 else 64 if subject.short < 128 or training < _FEW else 128
    return (side, side), True


def _model(subject: Subject, training: int, size: tuple[int, int], pretrained: bool) -> dict[str, Any]:
    if pretrained or max(size) > 64:
        return {"target": "resnet18", "num_classes": len(subject.counts)}
    width = 64 if training >= 100_000 else 32
    return {"target": "cnn", "in_channels": len(subject.mean), "num_classes": len(subject.counts), "width": width}
