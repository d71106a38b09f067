"""A vocabulary is the training part's: the other sets use it, what is kept for validation takes no part in it, and the run keeps it.

A data set has one if it has an attribute ``vocabulary``, whatever that is, and ``save(path)``; ``fit_on(indices)`` and
``take_vocabulary(other)`` if it can make another one its own.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from trainer.data.names import name_of
from trainer.errors import TrainingError


def bearer(dataset: Any) -> Any:
    """The data set with a vocabulary that is behind transforms and parts; None: there is none."""
    while dataset is not None and not (hasattr(dataset, "vocabulary") and callable(getattr(dataset, "save", None))):
        dataset = getattr(dataset, "dataset", None)
    return dataset


def fit_on_part(part: Any) -> None:
    """Make the vocabulary of the data set that a `Subset` is of that of its samples alone."""
    fit = getattr(part.dataset, "fit_on", None)
    if fit is not None and bearer(part.dataset) is part.dataset:
        fit(part.indices)


def share(train: Any, other: Any, what: str) -> None:
    """Let another set use the training set's vocabulary.

    Args:
        train: the training set.
        other: the other one.
        what: what to call it: ``validation set``.

    Raises:
        TrainingError: it has one of its own, and cannot take another.
    """
    ours, theirs = bearer(train), bearer(other)
    if ours is None or theirs is None:
        return
    if ours.vocabulary == theirs.vocabulary and getattr(ours, "classes", None) == getattr(theirs, "classes", None):
        return
    if getattr(theirs, "named", False) and ours.vocabulary != theirs.vocabulary:
        raise TrainingError(
            f"{what} {name_of(other)}: the vocabulary that it names is not the training set's; leave its argument vocabulary out"
        )
    if type(ours) is type(theirs) and hasattr(theirs, "take_vocabulary"):
        theirs.take_vocabulary(ours)
        while other is not theirs:  # what stands in front of it has copied the classes
            if hasattr(other, "classes"):
                other.classes = theirs.classes
            other = other.dataset
    elif isinstance(ours.vocabulary, (list, dict)):  # others may not tell whether they are equal
        raise TrainingError(
            f"{what} {name_of(other)}: its vocabulary is not that of the training set {name_of(train)}; use the same for both"
        )


def keep(train: Any, path: Path, resumed: bool) -> None:
    """Save the training set's vocabulary with the run, if it has one.

    Args:
        train: the training set.
        path: where to.
        resumed: the run goes on from a checkpoint: the vocabulary must be the one that was saved.

    Raises:
        TrainingError: it is another one.
    """
    found = bearer(train)
    if found is None:
        return
    if not resumed or not path.exists():
        found.save(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        again = Path(folder, path.name)
        found.save(again)
        same = again.read_bytes() == path.read_bytes()
    if not same:
        raise TrainingError(
            f"data set {name_of(train)}: its vocabulary is no longer the one that the run began with ({path}); "
            "put the data back as it was, or start over (--fresh)"
        )
