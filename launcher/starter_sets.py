"""The data sets that ``ostinato init`` knows by name: how many pictures of which size, so that nothing is opened or fetched to decide."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class KnownSet:
    """A data set that has a short name.

    Args:
        target: the name.
        samples: training pictures.
        classes: how many.
        size: (width, height).
        mean: of each channel, in [0, 1].
        std: of each channel.
        mirror: a mirror image is of the same class.
        files: where it lies below ``data/``; None: it needs no files.
        megabytes: to fetch.
        moved: a picture that is moved a little is of the same class too.
    """

    target: str
    samples: int
    classes: int
    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    mirror: bool = False
    files: str | None = None
    megabytes: int = 0
    moved: bool = True

    @property
    def is_there(self) -> bool:
        """Whether nothing has to be fetched."""
        return self.files is None or Path("data", self.files).is_dir()

    def parts(self) -> dict[str, dict[str, Any]]:
        """The training, validation and test set as the config writes them; what is fetched has no validation set."""
        if self.target == "digits":
            return {part: {"target": "digits", "split": part} for part in ("train", "valid", "test")}
        if self.target == "fake_data":
            return {"train": {"target": "fake_data", "size": self.samples, "num_classes": self.classes}}
        fetch = {} if self.is_there else {"download": True}
        named = {"target": self.target, "root": "data"}
        return {part: {"target": "in_memory", "of": {**named, "train": part == "train", **fetch}} for part in ("train", "test")}


_CIFAR_STD = (0.247, 0.2435, 0.2616)
SETS: dict[str, KnownSet] = {
    one.target: one
    for one in (
        KnownSet("digits", 1257, 10, (8, 8), (0.305,), (0.376,)),
        KnownSet("mnist", 60000, 10, (28, 28), (0.1307,), (0.3081,), files="MNIST/raw", megabytes=11),
        KnownSet("fashion_mnist", 60000, 10, (28, 28), (0.286,), (0.353,), mirror=True, files="FashionMNIST/raw", megabytes=30),
        KnownSet("cifar10", 50000, 10, (32, 32), (0.4914, 0.4822, 0.4465), _CIFAR_STD, True, "cifar-10-batches-py", 163),
        KnownSet("cifar100", 50000, 100, (32, 32), (0.5071, 0.4865, 0.4409), _CIFAR_STD, True, "cifar-100-python", 161),
        KnownSet("fake_data", 1000, 10, (32, 32), (0.0, 0.0, 0.0), (1.4, 1.4, 1.4), moved=False),
    )
}


def known(name: str) -> KnownSet | None:
    """The data set of a name, whatever its capitals, dashes and underscores; None: there is none."""
    return next((one for one in SETS.values() if _folded(one.target) == _folded(name)), None)


def _folded(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")
