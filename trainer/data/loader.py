"""Reading micro-batches: for training in the plan's order, for evaluation each sample exactly once.

A sample is read with python's, numpy's and torch's generators seeded from (seed, epoch, sample index), so neither the
number of loader workers nor that of workers changes what is read. A data set with ``get_batch(indices)`` is read a
micro-batch at a time, with the generators seeded as for its first sample: micro-batches are the plan's, whoever reads them.
What becomes of a sample that cannot be read is said in `trainer.data.reader`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from torch.utils.data._utils.pin_memory import pin_memory as pinned

from trainer.data.bad_samples import BadSamples
from trainer.data.keys import EVALUATION
from trainer.data.names import name_of, size_of
from trainer.data.order import BatchPlan
from trainer.data.processes import entry, start_iterator, stop_iterator
from trainer.data.reader import Batch, Failure, Mended, Reader, Task
from trainer.errors import TrainingError


def _checked(batch: Batch | Mended | Failure, dataset: Any, bad: BadSamples | None) -> Batch | None:
    """What a reader gave, once its complaints are heard."""
    if isinstance(batch, Failure):
        raise TrainingError(batch.line) from RuntimeError(batch.details)
    if isinstance(batch, Mended):
        assert bad is not None
        bad.note(dataset, batch.bad)
        return batch.batch
    return batch


class _Tasks:
    """The micro-batches of one worker, from a position on; a DataLoader takes it for a batch sampler."""

    def __init__(self, plan: BatchPlan, virtual_ranks: range) -> None:
        self.plan = plan
        self.virtual_ranks = virtual_ranks
        self.epoch = 0
        self.start_step = 0

    def __iter__(self) -> Iterator[Task]:
        epoch = self.epoch
        for step in range(self.start_step, self.plan.steps_per_epoch):
            for v in self.virtual_ranks:
                yield Task(epoch, self.plan.micro_batch(epoch, step, v))

    def __len__(self) -> int:
        return (self.plan.steps_per_epoch - self.start_step) * len(self.virtual_ranks)


def _identity(batch: Any) -> Any:
    return batch


def _data_loader(
    reader: Reader, tasks: Any, loader_workers: int, prefetch_factor: int, pin_memory: bool, persistent: bool
) -> DataLoader[Any]:
    return DataLoader(
        reader,  # type: ignore[arg-type]
        batch_sampler=tasks,
        num_workers=loader_workers,
        collate_fn=_identity,
        pin_memory=pin_memory,
        worker_init_fn=entry(),
        multiprocessing_context="forkserver",
        prefetch_factor=prefetch_factor,
        persistent_workers=persistent,
        generator=torch.Generator().manual_seed(0),  # else it draws from the default generator each epoch
    )


class TrainLoader:
    """The training micro-batches of one worker.

    Args:
        dataset: map-style: ``len(d)`` and ``d[i]`` -> ``(input, target)``, or also ``get_batch(indices)``.
        plan: which samples each update uses.
        rank: this worker.
        world_size: the number of workers.
        loader_workers: processes that read; 0 reads here.
        prefetch_factor: micro-batches that each loader worker holds ready.
        pin_memory: put batches in page-locked memory, for copies to a GPU.
        bad: takes down samples that cannot be read, whose place others take; without it the first one is an error.
    """

    def __init__(
        self,
        dataset: Any,
        plan: BatchPlan,
        *,
        rank: int = 0,
        world_size: int = 1,
        loader_workers: int = 0,
        prefetch_factor: int = 2,
        pin_memory: bool = False,
        bad: BadSamples | None = None,
    ) -> None:
        if len(dataset) != plan.n:
            raise TrainingError(f"the plan is for {plan.n} samples, the data set has {len(dataset)}")
        self._reader = Reader(dataset, plan.seed, _limit(dataset, bad))
        self._bad = bad
        self._tasks = _Tasks(plan, plan.ranks_of(rank, world_size))
        self._pin_memory = pin_memory
        self._iterator: Any = None
        self._loader: DataLoader[Any] | None = None
        if loader_workers:
            self._loader = _data_loader(self._reader, self._tasks, loader_workers, prefetch_factor, pin_memory, True)

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[list[Batch]]:
        """The updates of one epoch from one on; it may be left at any point, and one is open at a time.

        Args:
            epoch: the epoch.
            start_step: the first update, counted from 0 within the epoch.

        Yields:
            For each update this worker's micro-batches ``(inputs, targets)``, by virtual rank.

        Raises:
            TrainingError: a sample cannot be read; the text names it.
        """
        self._tasks.epoch, self._tasks.start_step = epoch, start_step
        batches = self._here() if self._loader is None else self._elsewhere(self._loader)
        per_step = len(self._tasks.virtual_ranks)
        for _ in range(start_step, self._tasks.plan.steps_per_epoch):
            yield [next(batches) for _ in range(per_step)]

    def close(self) -> None:
        """End the loader workers."""
        if self._iterator is not None:
            stop_iterator(self._iterator)
            self._iterator = self._loader = None

    def _whole(self, batch: Any) -> Batch:
        found = _checked(batch, self._reader.dataset, self._bad)
        if found is None:
            raise TrainingError(f"data set {name_of(self._reader.dataset)}: not one of its samples can be read")
        return found

    def _here(self) -> Iterator[Batch]:
        for task in self._tasks:
            batch = self._whole(self._reader.__getitems__(task))
            yield pinned(batch) if self._pin_memory else batch

    def _elsewhere(self, loader: DataLoader[Any]) -> Iterator[Batch]:
        # The processes stay from epoch to epoch; what they still hold of an epoch left midway is thrown away here.
        self._iterator = start_iterator(loader)
        for batch in self._iterator:
            yield self._whole(batch)


def _limit(dataset: Any, bad: BadSamples | None) -> int | None:
    """How many bad samples a reader may pass over; the set gets its number in the account, in the same order on every rank."""
    if bad is None:
        return None
    bad.number_of(dataset)
    return bad.limit


def eval_batches(
    dataset: Any,
    batch_size: int,
    *,
    rank: int = 0,
    world_size: int = 1,
    loader_workers: int = 0,
    prefetch_factor: int = 2,
    pin_memory: bool = False,
    seed: int = 0,
    bad: BadSamples | None = None,
) -> Generator[tuple[int, Any, Any], None, None]:
    """One worker's share of a data set, each sample in exactly one batch of exactly one worker.

    Batch k has the samples k·batch_size … (k+1)·batch_size - 1, whatever the number of workers; a worker has the batches
    rank, rank + world_size, …

    Args:
        dataset: as for `TrainLoader`.
        batch_size: samples in a batch; the last one may have fewer.
        rank: this worker.
        world_size: the number of workers.
        loader_workers: processes that read; 0 reads here.
        prefetch_factor: batches that each loader worker holds ready.
        pin_memory: put batches in page-locked memory.
        seed: keys what the data set draws at random.
        bad: takes down samples that cannot be read, and they are left out; without it the first one is an error.

    Yields:
        ``(batch number, inputs, targets)``; inputs and targets are None where no sample of a batch could be read.

    Raises:
        TrainingError: the set is empty, or a sample cannot be read; the text names it.
    """
    n = size_of(dataset)
    numbers = range(rank, -(-n // batch_size), world_size)
    tasks = [Task(EVALUATION, np.arange(k * batch_size, min((k + 1) * batch_size, n), dtype=np.int64)) for k in numbers]
    yield from _read(Reader(dataset, seed, _limit(dataset, bad)), numbers, tasks, loader_workers, prefetch_factor, pin_memory, bad)


def epoch_batches(
    dataset: Any,
    plan: BatchPlan,
    epoch: int,
    batch_size: int,
    most: int,
    *,
    loader_workers: int = 0,
    prefetch_factor: int = 2,
    pin_memory: bool = False,
    bad: BadSamples | None = None,
) -> Generator[tuple[int, Any, Any], None, None]:
    """The first batches of an epoch's order, all of them on every worker: samples as that epoch trains on them, in batches of another size.

    Args:
        dataset: as for `TrainLoader`.
        plan: gives the order.
        epoch: the epoch.
        batch_size: samples in a batch; an incomplete last one is left out, unless it is the only one.
        most: the number of batches.
        loader_workers: as for `eval_batches`.
        prefetch_factor: as for `eval_batches`.
        pin_memory: as for `eval_batches`.
        bad: takes down samples that cannot be read, whose place others take.
    """
    numbers = range(min(most, max(1, plan.n // batch_size)))
    tasks = [Task(epoch, plan.slice(epoch, k * batch_size, min((k + 1) * batch_size, plan.n))) for k in numbers]
    yield from _read(Reader(dataset, plan.seed, _limit(dataset, bad)), numbers, tasks, loader_workers, prefetch_factor, pin_memory, bad)


def _read(
    reader: Reader, numbers: range, tasks: list[Task], loader_workers: int, prefetch_factor: int, pin_memory: bool, bad: BadSamples | None
) -> Generator[tuple[int, Any, Any], None, None]:
    dataset = reader.dataset
    if not loader_workers or not tasks:
        for k, task in zip(numbers, tasks, strict=True):
            inputs, targets = _checked(reader.__getitems__(task), dataset, bad) or (None, None)
            yield (k, pinned(inputs), pinned(targets)) if pin_memory else (k, inputs, targets)
        return
    iterator = start_iterator(_data_loader(reader, tasks, min(loader_workers, len(tasks)), prefetch_factor, pin_memory, False))
    try:
        for k, batch in zip(numbers, iterator, strict=True):
            inputs, targets = _checked(batch, dataset, bad) or (None, None)
            yield k, inputs, targets
    finally:
        stop_iterator(iterator)


def size_of_batch(inputs: Any) -> int:
    """How many samples a batch has: the first dimension of the first tensor in its inputs; texts are counted."""
    if isinstance(inputs, torch.Tensor):
        return len(inputs)
    if isinstance(inputs, (list, tuple)) and inputs and isinstance(inputs[0], (str, bytes)):
        return len(inputs)
    parts = inputs.values() if isinstance(inputs, dict) else inputs if isinstance(inputs, (list, tuple)) else ()
    return next((size for part in parts if (size := size_of_batch(part))), 0)
