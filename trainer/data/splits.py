"""A share of a data set set aside by a seed: a pure function of the labels (or their number), the share and the seed.

The same samples on every worker, at every start, in any order of calls: nothing is drawn from a generator.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.keys import SPLIT
from trainer.data.labels import labels_of
from trainer.data.names import name_of
from trainer.data.order import Indices, permute
from trainer.errors import TrainingError
from trainer.seed import mix

_BLOCK = 4096


class Subset:
    """Some samples of a data set, in a given order.

    Args:
        dataset: map-style.
        indices: sample numbers of `dataset`, shape (m,).
    """

    def __init__(self, dataset: Any, indices: Indices) -> None:
        self.dataset = dataset
        self.indices = np.asarray(indices, dtype=np.int64)
        if hasattr(dataset, "classes"):
            self.classes = dataset.classes

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        """One sample as the whole set has it."""
        return self.dataset[int(self.indices[index])]

    @property
    def targets(self) -> NDArray[Any]:
        """The labels of these samples.

        Raises:
            AttributeError: the whole set has none at hand.
        """
        found = labels_of(self.dataset)
        if found is None:
            raise AttributeError("targets")
        return np.asarray(found[self.indices])


class WholeBatchSubset(Subset):
    """Some samples of a data set that reads whole batches."""

    def get_batch(self, indices: Indices) -> Any:
        """Many inputs and their targets."""
        return self.dataset.get_batch(self.indices[indices])


def subset(dataset: Any, indices: Indices) -> Subset:
    """Some samples of a data set, which reads whole batches if the data set does."""
    return (WholeBatchSubset if hasattr(dataset, "get_batch") else Subset)(dataset, indices)


def split(dataset: Any, fraction: float, seed: int, stratified: bool = False) -> tuple[Subset, Subset]:
    """A data set without a share of it, and the share.

    Args:
        dataset: map-style.
        fraction: the share, between 0 and 1.
        seed: which samples it takes.
        stratified: take that share of each class, to one sample.

    Raises:
        TrainingError: a part would be empty, or the classes are not known.
    """
    try:
        rest, share = split_indices(class_labels(dataset) if stratified else len(dataset), fraction, seed)
    except ValueError as fault:
        raise TrainingError(f"data set {name_of(dataset)}: {fault}") from fault
    return subset(dataset, rest), subset(dataset, share)


def split_indices(labels: NDArray[Any] | int, fraction: float, seed: int) -> tuple[Indices, Indices]:
    """The sample numbers outside a share and inside it, both ascending.

    Args:
        labels: how many samples there are; or a label for each, shape (n,), for the same share of each class, to one sample.
        fraction: the share, between 0 and 1; of n samples it is ``round(fraction * n)``.
        seed: which samples it takes.

    Raises:
        ValueError: a part would be empty.
    """
    classes = np.zeros(labels, dtype=np.int64) if isinstance(labels, int) else np.unique(labels, return_inverse=True)[1].reshape(-1)
    n = len(classes)
    wanted = round(n * fraction)
    if not 0 < wanted < n:
        raise ValueError(f"a share of {fraction:g} of {n} samples leaves a part empty; use another share, or a larger set")
    sizes = np.bincount(classes)
    inside = np.zeros(n, dtype=bool)
    for number, (size, taken) in enumerate(zip(sizes.tolist(), _shares(sizes, wanted).tolist(), strict=True)):
        places = permute(np.arange(taken, dtype=np.int64), size, mix(SPLIT, seed), number)
        inside[np.flatnonzero(classes == number)[places]] = True
    return np.flatnonzero(~inside), np.flatnonzero(inside)


def _shares(sizes: NDArray[np.int64], wanted: int) -> NDArray[np.int64]:
    """`wanted` shared out by size: whole parts first, the rest to the largest remainders, the first class first."""
    n = int(sizes.sum())
    shares = sizes * wanted // n
    remainders = sizes * wanted % n
    order = np.lexsort((np.arange(len(sizes)), -remainders))
    shares[order[: wanted - int(shares.sum())]] += 1
    return np.asarray(shares, dtype=np.int64)


def class_labels(dataset: Any) -> NDArray[np.int64]:
    """The class number of each sample, shape (n,).

    Raises:
        TrainingError: they are not at hand, or are no class numbers.
    """
    labels = labels_of(dataset)
    if labels is None and hasattr(dataset, "get_batch"):
        blocks = [np.arange(start, min(start + _BLOCK, len(dataset))) for start in range(0, len(dataset), _BLOCK)]
        labels = np.concatenate([np.asarray(dataset.get_batch(block)[1]) for block in blocks])
    if labels is None or len(labels) != len(dataset):
        raise TrainingError(
            f"data set {name_of(dataset)}: its classes are not known without reading each sample; "
            "give it an attribute targets with a class number for each, or leave data.stratified out"
        )
    if labels.ndim != 1 or (labels != np.floor(labels)).any():
        raise TrainingError(f"data set {name_of(dataset)}: its targets are no class numbers; leave data.stratified out")
    return labels.astype(np.int64)


def check_same_classes(train: Any, other: Any, what: str) -> None:
    """Refuse a second data set whose classes are others, or in another order: their numbers would mean other things.

    Args:
        train: the training set.
        other: the other one.
        what: what to call it: ``validation set``.

    Raises:
        TrainingError: names the first difference.
    """
    ours, theirs = (list(map(str, getattr(dataset, "classes", None) or [])) for dataset in (train, other))
    if not ours or not theirs or _same_as_numbers(ours, theirs):
        return
    for number in range(max(len(ours), len(theirs))):
        mine, its = (names[number] if number < len(names) else "missing" for names in (ours, theirs))
        if mine != its:
            raise TrainingError(
                f"{what} {name_of(other)}: its class {number} is {its}, and {mine} in the training set; use the same classes for both"
            )


def _same_as_numbers(ours: list[str], theirs: list[str]) -> bool:
    """Whether the names are the same, or those that both have are but numbers: the highest class may be missing in one."""
    short = min(ours, theirs, key=len)
    return ours == theirs or (ours[: len(short)] == theirs[: len(short)] == [str(number) for number in range(len(short))])
