"""Exact evaluation: every sample once, in batches that do not depend on the number of workers, fractions added in batch order."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from trainer.config.schema import Config
from trainer.data.bad_samples import BadSamples
from trainer.data.keys import EVALUATION
from trainer.data.labels import check_labels
from trainer.data.loader import eval_batches, size_of_batch
from trainer.data.names import name_of
from trainer.distributed import World
from trainer.errors import TrainingError
from trainer.metrics.meters import in_order
from trainer.models.embeddings import embeddings_checked
from trainer.seed import seed_micro_batch
from trainer.step import AMP_DTYPES, to_device
from trainer.tasks.base import Sums, Task
from trainer.tasks.weights import see_lengths


@dataclass(frozen=True)
class Measured:
    """What an evaluation found.

    Args:
        metrics: numbers by name, ``loss`` among them.
        details: what is more than a number: a confusion matrix, figures for each class.
        samples: so many could be read.
    """

    metrics: dict[str, float]
    details: dict[str, Any] = field(default_factory=dict)
    samples: int = 0


@torch.no_grad()
def try_some(model: nn.Module, task: Task, dataset: Any, config: Config, world: World, bad: BadSamples | None = None) -> Sums:
    """Evaluate a few samples: what cannot be evaluated shows before the first epoch, not after it.

    Returns:
        What the task measured of them: the same names and shapes as of any batch.

    Raises:
        TrainingError: the set is empty, a sample cannot be read, none of them can, or a label does not fit the model's output.
    """
    model.eval()
    reader = eval_batches(dataset, min(config.data.eval_batch_size, 8), seed=config.seed, bad=bad)
    batch = next(((inputs, targets) for _, inputs, targets in reader if inputs is not None), None)  # bad samples are passed over
    if batch is None:
        raise TrainingError(f"data set {name_of(dataset)}: not one of its samples can be read")
    inputs, targets = to_device(batch, world.device)
    with autocast(config, world), embeddings_checked(model, dataset), _labels_checked(task, dataset):
        if not isinstance(task.loss, nn.Module) and type(task).run is Task.run:
            _check_labels(task, dataset, model(inputs), targets)
        output, _ = task.run(model, inputs, targets)
    found = {name: value.cpu() for name, value in task.measure(output, targets).items()}
    model.train()
    return found


@contextlib.contextmanager
def _labels_checked(task: Task, dataset: Any) -> Iterator[None]:
    """Within this context labels and class weights are looked at before the loss gets them: it has no good words for wrong ones."""
    if not isinstance(task.loss, nn.Module):
        yield
        return

    def look(_: nn.Module, arguments: tuple[Any, ...]) -> None:
        if len(arguments) == 2:
            _check_labels(task, dataset, *arguments)
            see_lengths(task.loss, arguments[0])

    handle = task.loss.register_forward_pre_hook(look)
    try:
        yield
    finally:
        handle.remove()


def _check_labels(task: Task, dataset: Any, output: Any, targets: Any) -> None:
    if isinstance(targets, torch.Tensor) and targets.dtype == torch.int64:
        classes = task.classes(output, targets)
        if classes is not None:
            check_labels(dataset, classes, getattr(task.loss, "ignore_index", -100))


def autocast(config: Config, world: World) -> Any:
    """The arithmetic of the config's forward passes."""
    amp = AMP_DTYPES.get(config.train.amp)
    return torch.autocast(world.device.type, amp or torch.bfloat16, enabled=amp is not None)


@torch.no_grad()
def evaluate(
    model: nn.Module,
    task: Task,
    dataset: Any,
    config: Config,
    world: World,
    like: Sums,
    leave: Callable[[], bool] = lambda: False,
    bad: BadSamples | None = None,
) -> Measured | None:
    """The task's metrics over a data set; the same bits on any number of workers.

    Args:
        model: the bare module; left in training mode.
        task: what is measured.
        dataset: map-style.
        config: the run's config.
        world: this worker's place; every rank calls this.
        like: what `try_some` gave for this set: a rank without a batch learns from it what the others measure.
        leave: asked before each batch, equally often on every rank and with the same answer: whether to break off.
        bad: takes down samples that cannot be read and are left out.

    Returns:
        What was found; None: it was broken off.
    """
    size = config.data.eval_batch_size
    batches = -(-len(dataset) // size)
    tally = _Tally(like, -(-batches // world.size), world)
    model.eval()
    reader = eval_batches(
        dataset,
        size,
        rank=world.rank,
        world_size=world.size,
        loader_workers=config.data.loader_workers,
        prefetch_factor=config.data.prefetch_factor,
        pin_memory=world.device.type == "cuda",
        seed=config.seed,
        bad=bad,
    )
    broken_off = False
    for turn in range(tally.turns):
        if broken_off := leave():
            break
        if turn * world.size + world.rank >= batches:  # the last turn need not have a batch for each rank
            continue
        number, inputs, targets = next(reader)
        if inputs is None:  # none of its samples could be read
            continue
        inputs, targets = to_device((inputs, targets), world.device)
        seed_micro_batch(config.seed, EVALUATION, number, world.device)  # a model may draw in evaluation as well
        with autocast(config, world):
            output, loss = task.run(model, inputs, targets)
        tally.add(turn, size_of_batch(inputs), loss, task.loss_weight(output, targets), task.measure(output, targets))
    reader.close()  # ends its loader workers
    model.train()
    if broken_off:
        return None
    return tally.close(task)


class _Tally:
    """The sums of one evaluation on this rank: a row of fractions for each batch, whole numbers all in one."""

    def __init__(self, like: Sums, turns: int, world: World) -> None:
        self.turns, self.world = turns, world
        self.fractions = [name for name in sorted(like) if like[name].is_floating_point()]
        self.shapes = {name: like[name].shape for name in self.fractions}
        self.whole = {name: torch.zeros_like(like[name], device=world.device) for name in sorted(like) if name not in self.shapes}
        width = 3 + sum(like[name].numel() for name in self.fractions)
        self.rows = torch.zeros(turns, width, dtype=torch.float64, device=world.device)

    def add(self, turn: int, count: int, loss: torch.Tensor, weight: torch.Tensor | None, measured: Sums) -> None:
        """Take one batch: its samples, its mean loss and what that weighs (None: its samples), and what the task measured of it."""
        samples = torch.full((1,), float(count), dtype=torch.float64, device=loss.device)
        weight = samples if weight is None else weight.double().reshape(1)
        value = torch.where(weight > 0, loss.double().reshape(1) * weight, 0.0)  # where nothing counts, the mean is none
        parts = [measured[name].double().reshape(-1) for name in self.fractions if name in measured]
        self.rows[turn] = torch.cat([samples, weight, value, *parts])
        for name, total in self.whole.items():
            if name in measured:
                total += measured[name]

    def close(self, task: Task) -> Measured:
        """Add up over all ranks: rank r has the batches r, r + W, …, so transposing puts the rows in order."""
        world, width = self.world, self.rows.shape[1]
        rows = world.gather(self.rows.cpu()).view(world.size, self.turns, width).transpose(0, 1).reshape(-1, width)
        count, weight, loss = in_order(rows[:, :3])
        sums: Sums = {}
        for row in rows[rows[:, 0] > 0] if self.fractions else ():
            batch = dict(self._fractions(row[3:]))
            sums = task.merge(sums, batch) if sums else batch
        for name, total in self.whole.items():
            sums[name] = world.gather(total.cpu().unsqueeze(0)).sum(0)
        samples = round(count)
        if not samples:
            return Measured({})
        metrics = {"loss": loss / weight if weight else math.nan, **task.metrics(sums, samples)}
        return Measured(metrics, task.details(sums, samples) if world.is_main else {}, samples)

    def _fractions(self, values: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        start = 0
        for name in self.fractions:
            stop = start + self.shapes[name].numel()
            yield name, values[start:stop].view(self.shapes[name])
            start = stop
