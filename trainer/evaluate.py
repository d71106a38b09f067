"""Exact evaluation: every sample once, in batches that do not depend on the number of workers, sums in float64 in batch order."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from trainer.config.schema import Config
from trainer.data.bad_samples import BadSamples
from trainer.data.keys import EVALUATION
from trainer.data.labels import check_labels
from trainer.data.loader import eval_batches, size_of_batch
from trainer.distributed import World
from trainer.metrics.meters import COUNT, HITS, LOSS, is_classification, means
from trainer.seed import seed_micro_batch
from trainer.step import AMP_DTYPES, to_device


@torch.no_grad()
def try_some(model: nn.Module, loss: Any, dataset: Any, config: Config, world: World, bad: BadSamples | None = None) -> None:
    """Evaluate a few samples: what cannot be evaluated shows before the first epoch, not after it.

    Raises:
        TrainingError: the set is empty, a sample cannot be read, or a label does not fit the model's output.
    """
    amp = AMP_DTYPES.get(config.train.amp)
    model.eval()
    reader = eval_batches(dataset, min(config.data.eval_batch_size, 8), seed=config.seed, bad=bad)
    for _, inputs, targets in itertools.islice(reader, 1):
        if inputs is None:
            continue
        inputs, targets = to_device((inputs, targets), world.device)
        with torch.autocast(world.device.type, amp or torch.bfloat16, enabled=amp is not None):
            output = model(inputs)
            if is_classification(output, targets):  # before the loss, which has no good words for a wrong label
                check_labels(dataset, output.shape[1], getattr(loss, "ignore_index", -100))
            loss(output, targets)
    model.train()


@torch.no_grad()
def evaluate(
    model: nn.Module,
    loss: Any,
    dataset: Any,
    config: Config,
    world: World,
    leave: Callable[[], bool] = lambda: False,
    bad: BadSamples | None = None,
) -> dict[str, float] | None:
    """The mean loss over a data set, and the accuracy of a classifier; the same bits on any number of workers.

    Args:
        model: the bare module; left in training mode.
        loss: the mean over a batch's samples.
        dataset: map-style.
        config: the run's config.
        world: this worker's place; every rank calls this.
        leave: asked before each batch, equally often on every rank and with the same answer: whether to break off.
        bad: takes down samples that cannot be read and are left out.

    Returns:
        The means; None: it was broken off.
    """
    size = config.data.eval_batch_size
    batches = -(-len(dataset) // size)
    share = -(-batches // world.size)
    rows = torch.zeros(share, 3, dtype=torch.float64, device=world.device)
    classification = torch.zeros(1, dtype=torch.int64)
    amp = AMP_DTYPES.get(config.train.amp)
    model.eval()
    workers = config.data.loader_workers
    reader = eval_batches(dataset, size, rank=world.rank, world_size=world.size, seed=config.seed, loader_workers=workers, bad=bad)
    broken_off = False
    for turn in range(share):
        if broken_off := leave():
            break
        if turn * world.size + world.rank >= batches:  # the last turn need not have a batch for each rank
            continue
        number, inputs, targets = next(reader)
        if inputs is None:  # none of its samples could be read
            continue
        inputs, targets = to_device((inputs, targets), world.device)
        count = size_of_batch(inputs)
        seed_micro_batch(config.seed, EVALUATION, number, world.device)  # a model may draw in evaluation as well
        with torch.autocast(world.device.type, amp or torch.bfloat16, enabled=amp is not None):
            output = model(inputs)
            value = loss(output, targets)
        row = rows[number // world.size]
        row[LOSS] = value.double() * count
        if is_classification(output, targets):
            classification[0] = 1
            row[HITS] = (output.argmax(1) == targets).sum()
        row[COUNT] = count
    reader.close()  # ends its loader workers
    model.train()
    if broken_off:
        return None
    # rank r has the batches r, r + W, …: transposing puts them in order; a rank without a last batch has a row of zeros
    gathered = world.gather(rows.cpu()).view(world.size, share, 3).transpose(0, 1).reshape(-1, 3)
    return means(gathered, bool(world.gather(classification).any()))
