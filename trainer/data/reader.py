"""Reads the samples of one micro-batch; what goes wrong travels as a value, since torch would bury its text in a traceback.

A sample that cannot be read ends the run, or (``data.bad_samples: skip``) the next readable one by number takes its place, read under
the key of the one it stands for: a function of the data alone, so that the bits are the same whoever reads. An evaluation leaves it
out instead, for a replacement would be counted twice.
"""

from __future__ import annotations

import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from torch.utils.data import default_collate

from trainer.data.keys import EVALUATION, sample_keys, seed_sample
from trainer.data.names import UnreadableFile, file_number, name_of, pair, reason, said
from trainer.data.order import Indices
from trainer.errors import OstinatoError

Batch = tuple[Any, Any]


class Task(NamedTuple):
    """A micro-batch to read."""

    epoch: int
    indices: Indices


class Failure(NamedTuple):
    """Why a micro-batch could not be read."""

    line: str
    details: str


class BadSample(NamedTuple):
    """A sample that could not be read, and the one in its place (None: it was left out)."""

    number: int
    said: str
    reason: str
    instead: int | None


class Mended(NamedTuple):
    """A micro-batch without its bad samples; None: nothing of it is left."""

    batch: Batch | None
    bad: tuple[BadSample, ...]


class _Unreadable(Exception):
    """A sample of which no other can take the place."""


class _Ended(Exception):
    """What came up while another was looked for ends the run."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.line)
        self.failure = failure


class Reader:
    """Reads one task at a time; a DataLoader takes it for a data set that reads many samples in one call.

    Args:
        dataset: map-style: ``len(d)`` and ``d[i]`` -> ``(input, target)``, or also ``get_batch(indices)``.
        seed: the job's seed.
        limit: how many different bad samples are passed over; None: the first one is a failure.
    """

    def __init__(self, dataset: Any, seed: int, limit: int | None = None) -> None:
        self.dataset = dataset
        self.seed = seed
        self.limit = limit
        self._bad: dict[int, BadSample] = {}  # all that this process has met, by file: several samples can meet the same one
        self._reading: ThreadPoolExecutor | None = None

    def __len__(self) -> int:
        return len(self.dataset)

    def read_in_own_thread(self) -> None:
        """Read in a thread that is new here: what is left of OpenMP's threads after a fork belongs to the one that forked, and hangs."""
        self._reading = ThreadPoolExecutor(1)

    def __getitems__(self, task: Task) -> Batch | Mended | Failure:
        return self._read(task) if self._reading is None else self._reading.submit(self._read, task).result()

    def _read(self, task: Task) -> Batch | Mended | Failure:
        if not hasattr(self.dataset, "get_batch"):
            return self._one_by_one(task)
        try:
            for key in sample_keys(task.indices[:1], self.seed, task.epoch).tolist():
                seed_sample(key)
            inputs, targets = self.dataset.get_batch(task.indices)
            return inputs, targets
        except Exception as error:
            return self._failure("a batch cannot be read", error)

    def _one_by_one(self, task: Task) -> Batch | Mended | Failure:
        samples: list[Any] = []
        numbers: list[int] = []  # of the samples: bad ones are left out, or another takes their place
        bad: list[BadSample] = []
        for index, key in zip(task.indices.tolist(), sample_keys(task.indices, self.seed, task.epoch).tolist(), strict=True):
            seed_sample(key)
            try:
                sample = self.dataset[index]
                samples.append(sample if type(sample) is tuple and len(sample) == 2 else pair(sample))
                numbers.append(index)
            except Exception as error:
                if self.limit is None or isinstance(error, (MemoryError, OstinatoError)):
                    return self._failure(f"{said(self.dataset, index, error)} cannot be read", error)
                bad.append(self._met(index, error))
                if task.epoch != EVALUATION:
                    try:
                        number, sample = self._next_readable(index, key, bad)
                    except _Unreadable:
                        return Mended(None, tuple(self._bad.values()))
                    except _Ended as end:
                        return end.failure
                    samples.append(sample)
                    numbers.append(number)
        if bad and not samples:
            return Mended(None, tuple(bad))
        try:
            inputs, targets = default_collate(samples)
        except Exception as error:
            return self._failure(self._odd(numbers, samples), error)
        return Mended((inputs, targets), tuple(bad)) if bad else (inputs, targets)

    def _next_readable(self, index: int, key: int, bad: list[BadSample]) -> tuple[int, Any]:
        """The sample that takes the place of a bad one, with its number; what is bad on the way to it is put down as well."""
        first, n = len(bad) - 1, len(self.dataset)
        assert self.limit is not None
        for other in ((index + distance) % n for distance in range(1, n)):
            if len(self._bad) > self.limit:
                break  # too many: the run ends with it
            seed_sample(key)
            try:
                sample = pair(self.dataset[other])
            except Exception as error:
                if isinstance(error, (MemoryError, OstinatoError)):
                    raise _Ended(self._failure(f"{said(self.dataset, other, error)} cannot be read", error)) from error
                bad.append(self._met(other, error))
            else:
                bad[first:] = [one._replace(instead=other) for one in bad[first:]]
                return other, sample
        raise _Unreadable

    def _met(self, number: int, error: Exception) -> BadSample:
        found = BadSample(number, said(self.dataset, number, error), reason(error), None)
        self._bad.setdefault(file_number(self.dataset, number), found)
        return found

    def _odd(self, numbers: list[int], samples: list[Any]) -> str:
        """Which sample does not go with the first one."""
        for index, sample in zip(numbers, samples, strict=True):
            try:
                default_collate([samples[0], sample])
            except Exception:
                what = said(self.dataset, index)
                if sample is samples[0]:
                    return f"{what} is of a kind that no batch can be made of"
                first = said(self.dataset, numbers[0])
                return f"{what}, {_shapes(sample)}, does not go into one batch with {first}, {_shapes(samples[0])}"
        return "a batch cannot be made"

    def _failure(self, what: str, error: Exception) -> Failure:
        line = f"data set {name_of(self.dataset)}: {what}: {reason(error)}"
        if not isinstance(error, UnreadableFile):  # the file is to blame, and no line of code
            place = traceback.extract_tb(error.__traceback__)[-1]
            line += f" ({place.filename}:{place.lineno})"
        return Failure(line, traceback.format_exc())

    def __reduce__(self) -> tuple[Any, ...]:
        # The door to torchvision must open before its classes are unpickled in a loader worker: arguments go in order.
        return _make_reader, (_Vision() if "torchvision" in sys.modules else None, self.dataset, self.seed, self.limit)


def _shapes(sample: Any) -> str:
    """``[3, 8, 8] and int``."""
    return " and ".join(str(list(part.shape)) if hasattr(part, "shape") else type(part).__name__ for part in sample)


class _Vision:
    """Imports torchvision where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _open_vision, ()


def _open_vision() -> None:
    from trainer.vision import import_torchvision

    import_torchvision()


def _make_reader(_: None, dataset: Any, seed: int, limit: int | None) -> Reader:
    return Reader(dataset, seed, limit)
