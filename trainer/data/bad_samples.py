"""The account of samples that cannot be read: each is said once, and more than the config allows end the run."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch

from trainer.data.names import file_number, name_of
from trainer.data.reader import BadSample
from trainer.distributed import World
from trainer.errors import TrainingError

log = logging.getLogger("trainer")

_SHOWN = 3


class BadSamples:
    """Counts different samples of all data sets of a run, in this attempt; several of one file, such as a video's frames, are one.

    Args:
        limit: ``data.max_bad_samples``.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.found: dict[tuple[int, int], str] = {}
        self._sets: list[Any] = []

    def number_of(self, dataset: Any) -> int:
        """A data set's number: sets are met in the same order on every rank."""
        for number, known in enumerate(self._sets):
            if known is dataset:
                return number
        self._sets.append(dataset)
        return len(self._sets) - 1

    def note(self, dataset: Any, bad: Sequence[BadSample]) -> None:
        """Take down what a reader found.

        Raises:
            TrainingError: that makes too many.
        """
        number, name = self.number_of(dataset), name_of(dataset)
        for one in bad:
            key = number, file_number(dataset, one.number)
            if key not in self.found:
                self.found[key] = f"{name} {one.said}"
                what = "it is left out" if one.instead is None else f"sample {one.instead} takes its place"
                log.warning(f"data set {name}: {one.said} cannot be read: {one.reason}; {what}")
        if len(self.found) > self.limit:
            raise self._too_many(len(self.found))

    def together(self, world: World) -> None:
        """Count what all workers found. Every rank calls it.

        Raises:
            TrainingError: together they are too many, on every rank.
        """
        mine = torch.full((self.limit + 1, 2), -1, dtype=torch.int64)
        if self.found:
            mine[: len(self.found)] = torch.tensor(list(self.found))
        places = {tuple(row) for row in world.gather(mine).view(-1, 2).tolist() if row[0] >= 0}
        if len(places) > self.limit:
            raise self._too_many(len(places))

    def _too_many(self, count: int) -> TrainingError:
        shown = ", ".join(list(self.found.values())[:_SHOWN])
        return TrainingError(
            f"{count} samples cannot be read, more than data.max_bad_samples {self.limit}{f'; the first: {shown}' if shown else ''}; "
            "mend or remove them"
        )
