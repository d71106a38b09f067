"""What a data set must be (a length, pairs), and what a person calls it and its samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trainer.errors import TrainingError


class UnreadableFile(Exception):
    """A file of a data set that cannot be decoded: an image, a video.

    Args:
        path: the file.
        why: one line.
    """

    def __init__(self, path: str, why: str) -> None:
        super().__init__(path, why)
        self.filename = path
        self.why = why

    def __str__(self) -> str:
        return f"{self.filename}: {self.why}"


def name_of(dataset: Any) -> str:
    """A data set's class, behind the transforms and parts."""
    inner = getattr(dataset, "dataset", None)
    return type(dataset).__name__ if inner is None else name_of(inner)


def path_of(dataset: Any, index: int) -> str | None:
    """The file of a sample, where the data set keeps a list of them as torchvision's `ImageFolder` does."""
    inner = getattr(dataset, "dataset", None)
    if inner is not None:
        indices = getattr(dataset, "indices", None)
        return path_of(inner, index if indices is None else int(indices[index]))
    for attribute in ("samples", "imgs"):
        entries = getattr(dataset, attribute, None)
        if isinstance(entries, Sequence) and not isinstance(entries, str) and -len(entries) <= index < len(entries):
            entry = entries[index]
            path = entry[0] if isinstance(entry, (tuple, list)) and entry else entry
            if isinstance(path, str):
                return path
    return None


def file_number(dataset: Any, index: int) -> int:
    """The number of a sample's file, where several samples are of one: the data set has a method ``file_of``. Otherwise the sample's."""
    number = index
    while dataset is not None:
        if callable(getattr(dataset, "file_of", None)):
            return int(dataset.file_of(number))
        indices = getattr(dataset, "indices", None)
        number = number if indices is None else int(indices[number])
        dataset = getattr(dataset, "dataset", None)
    return index


def said(dataset: Any, index: int, error: BaseException | None = None) -> str:
    """``sample 17``, or ``sample 17 (images/cat/1.jpg)`` where the data set or the error knows the file."""
    try:
        path = path_of(dataset, index)
    except Exception:  # a list of a strange kind must not hide what was to be told
        path = None
    filename = getattr(error, "filename", None)
    if path is None and isinstance(filename, str):
        path = filename
    return f"sample {index} ({path})" if path else f"sample {index}"


def size_of(dataset: Any, what: str = "data set") -> int:
    """How many samples a data set has.

    Args:
        dataset: map-style.
        what: what to call it in a message: ``training set``.

    Raises:
        TrainingError: it cannot say, or has none.
    """
    try:
        size = len(dataset)
    except Exception as error:
        why = f"its length is not known ({reason(error)})"
        raise TrainingError(f"{what} {name_of(dataset)}: {why}; a data set has len(d) and d[i] -> (input, target)") from error
    if size == 0:
        raise TrainingError(f"{what} {name_of(dataset)}: it has no samples; look at its arguments, or leave it out of the config")
    return size


def pair(sample: Any) -> Any:
    """A sample that is a pair (input, target).

    Raises:
        TypeError: it is something else.
    """
    if isinstance(sample, (tuple, list)) and len(sample) == 2:
        return sample
    count = f" of {len(sample)}" if isinstance(sample, (tuple, list)) else ""
    raise TypeError(f"it is a {type(sample).__name__}{count}, not a pair (input, target)")


def reason(error: BaseException) -> str:
    """The first line of an exception's text, with its kind; of a bad file, whose name stands beside it already, what is wrong with it."""
    if isinstance(error, UnreadableFile):
        return error.why
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
