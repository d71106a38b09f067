"""Reading micro-batches: for training in the plan's order, for evaluation each sample exactly once.

A sample is read with python's, numpy's and torch's generators seeded from (seed, epoch, sample index), so neither the
number of loader workers nor that of workers changes what is read. A data set with ``get_batch(indices)`` is read a
micro-batch at a time, with the generators seeded as for its first sample: micro-batches are the plan's, whoever reads them.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, default_collate
from torch.utils.data._utils.pin_memory import pin_memory as pinned

from trainer.data.keys import EVALUATION, sample_keys, seed_sample
from trainer.data.order import BatchPlan, Indices
from trainer.data.processes import entry, start_iterator, stop_iterator
from trainer.errors import TrainingError

Batch = tuple[Any, Any]


class _Task(NamedTuple):
    """A micro-batch to read."""

    epoch: int
    indices: Indices


class _Failure(NamedTuple):
    """Why a micro-batch could not be read: it travels as a value, since torch would bury its text in a traceback."""

    line: str
    details: str


class _Reader:
    """Reads one task at a time; a DataLoader takes it for a data set that reads many samples in one call."""

    def __init__(self, dataset: Any, seed: int) -> None:
        self.dataset = dataset
        self.seed = seed
        self._reading: ThreadPoolExecutor | None = None

    def __len__(self) -> int:
        return len(self.dataset)

    def read_in_own_thread(self) -> None:
        """Read in a thread that is new here: what is left of OpenMP's threads after a fork belongs to the one that forked, and hangs."""
        self._reading = ThreadPoolExecutor(1)

    def __getitems__(self, task: _Task) -> Batch | _Failure:
        return self._read(task) if self._reading is None else self._reading.submit(self._read, task).result()

    def _read(self, task: _Task) -> Batch | _Failure:
        index = None
        try:
            if hasattr(self.dataset, "get_batch"):
                for key in sample_keys(task.indices[:1], self.seed, task.epoch).tolist():
                    seed_sample(key)
                inputs, targets = self.dataset.get_batch(task.indices)
                return inputs, targets
            samples = []
            keys = sample_keys(task.indices, self.seed, task.epoch).tolist()
            for index, key in zip(task.indices.tolist(), keys, strict=True):
                seed_sample(key)
                value, target = self.dataset[index]
                samples.append((value, target))
            index = None
            inputs, targets = default_collate(samples)
            return inputs, targets
        except Exception as error:
            return _Failure(_one_line(self.dataset, index, error), traceback.format_exc())

    def __reduce__(self) -> tuple[Any, ...]:
        # The door to torchvision must open before its classes are unpickled in a loader worker: arguments go in order.
        return _make_reader, (_Vision() if "torchvision" in sys.modules else None, self.dataset, self.seed)


class _Vision:
    """Imports torchvision where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _open_vision, ()


def _open_vision() -> None:
    from trainer.vision import import_torchvision

    import_torchvision()


def _make_reader(_: None, dataset: Any, seed: int) -> _Reader:
    return _Reader(dataset, seed)


def _one_line(dataset: Any, index: int | None, error: Exception) -> str:
    what = "a batch" if index is None else f"sample {index}"
    place = traceback.extract_tb(error.__traceback__)[-1]
    reason = str(error).strip().splitlines()[0] if str(error).strip() else "no message"
    name = type(getattr(dataset, "dataset", dataset)).__name__
    return f"data set {name}: {what} cannot be read: {type(error).__name__}: {reason} ({place.filename}:{place.lineno})"


def _checked(batch: Batch | _Failure) -> Batch:
    if isinstance(batch, _Failure):
        raise TrainingError(batch.line) from RuntimeError(batch.details)
    return batch


class _Tasks:
    """The micro-batches of one worker, from a position on; a DataLoader takes it for a batch sampler."""

    def __init__(self, plan: BatchPlan, virtual_ranks: range) -> None:
        self.plan = plan
        self.virtual_ranks = virtual_ranks
        self.epoch = 0
        self.start_step = 0

    def __iter__(self) -> Iterator[_Task]:
        epoch = self.epoch
        for step in range(self.start_step, self.plan.steps_per_epoch):
            for v in self.virtual_ranks:
                yield _Task(epoch, self.plan.micro_batch(epoch, step, v))

    def __len__(self) -> int:
        return (self.plan.steps_per_epoch - self.start_step) * len(self.virtual_ranks)


def _identity(batch: Any) -> Any:
    return batch


def _data_loader(
    reader: _Reader, tasks: Any, loader_workers: int, prefetch_factor: int, pin_memory: bool, persistent: bool
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
    ) -> None:
        if len(dataset) != plan.n:
            raise TrainingError(f"the plan is for {plan.n} samples, the data set has {len(dataset)}")
        self._reader = _Reader(dataset, plan.seed)
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

    def _here(self) -> Iterator[Batch]:
        for task in self._tasks:
            batch = _checked(self._reader.__getitems__(task))
            yield pinned(batch) if self._pin_memory else batch

    def _elsewhere(self, loader: DataLoader[Any]) -> Iterator[Batch]:
        # The processes stay from epoch to epoch; what they still hold of an epoch left midway is thrown away here.
        self._iterator = start_iterator(loader)
        for batch in self._iterator:
            yield _checked(batch)


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
) -> Iterator[tuple[int, Any, Any]]:
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

    Yields:
        ``(batch number, inputs, targets)``.

    Raises:
        TrainingError: a sample cannot be read; the text names it.
    """
    n = len(dataset)
    numbers = range(rank, -(-n // batch_size), world_size)
    tasks = [_Task(EVALUATION, np.arange(k * batch_size, min((k + 1) * batch_size, n), dtype=np.int64)) for k in numbers]
    reader = _Reader(dataset, seed)
    if not loader_workers or not tasks:
        for k, task in zip(numbers, tasks, strict=True):
            inputs, targets = _checked(reader.__getitems__(task))
            yield (k, pinned(inputs), pinned(targets)) if pin_memory else (k, inputs, targets)
        return
    iterator = start_iterator(_data_loader(reader, tasks, min(loader_workers, len(tasks)), prefetch_factor, pin_memory, False))
    try:
        for k, batch in zip(numbers, iterator, strict=True):
            inputs, targets = _checked(batch)
            yield k, inputs, targets
    finally:
        stop_iterator(iterator)
