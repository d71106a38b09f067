"""The average of an epoch's end: when it is taken, and the statistics that belong to it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from trainer.build import Job
from trainer.data.keys import EVALUATION
from trainer.data.loader import epoch_batches
from trainer.evaluate import autocast
from trainer.seed import seed_micro_batch
from trainer.step import to_device

BATCHES = 64
"""How many batches BatchNorm's statistics are computed from, at most."""


def average(job: Job, leave: Callable[[], bool]) -> bool:
    """Take the epoch's weights into the stochastic average, whose BatchNorm statistics are computed anew.

    They are those of the epoch's first batches, in its own order: in the order of the set, classes may come one after another. Every worker
    reads the same batches.

    Args:
        job: at an epoch's end.
        leave: asked before each batch, equally often on every rank and with the same answer: whether to break off.

    Returns:
        False: it was broken off. The weights are taken in, and the next call computes the statistics from the beginning, to the same bits.
    """
    swa, section = job.state.swa, job.config.train.swa
    if swa is None or section is None or job.state.epoch < section.start_epoch:
        return True
    if swa.count <= job.state.epoch - section.start_epoch:  # else a stop came here, or during the evaluation after it
        swa.update(job.state.model)
    data, device = job.config.data, job.world.device
    batches = epoch_batches(
        job.train_set,
        job.plan,
        job.state.epoch,
        max(data.eval_batch_size, data.batch_size // job.plan.virtual_ranks),  # both are known to fit
        BATCHES,
        loader_workers=data.loader_workers,
        prefetch_factor=data.prefetch_factor,
        pin_memory=device.type == "cuda",
        bad=job.bad,
    )

    def forward(batch: tuple[int, Any, Any]) -> None:
        number, inputs, targets = batch
        seed_micro_batch(job.config.seed, EVALUATION, number, device)
        with autocast(job.config, job.world):
            job.task.run(job.state.model, *to_device((inputs, targets), device))

    heard = _Until(leave, batches)
    with contextlib.closing(batches):
        swa.refresh(job.state.model, heard, keep=job.frozen.norms, forward=forward)
    return not heard.left


class _Until:
    """Batches until somebody asks to leave."""

    def __init__(self, leave: Callable[[], bool], batches: Iterator[Any]) -> None:
        self.leave, self.batches, self.left = leave, batches, False

    def __iter__(self) -> Iterator[Any]:
        for batch in self.batches:
            self.left = self.leave()
            if self.left:
                return
            yield batch


def swapped_in(job: Job) -> Any:
    """Within this context the model has the averaged weights, if the run keeps an average."""
    state = job.state
    if state.swa is not None and state.swa.count:
        return state.swa.swapped_in(state.model)
    return state.ema.swapped_in(state.model) if state.ema is not None else contextlib.nullcontext()
