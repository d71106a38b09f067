"""Losses and gradients that are NaN or infinite: where it began, and what to say of it."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from trainer.data.order import BatchPlan
from trainer.errors import NonFiniteError

if TYPE_CHECKING:
    from trainer.build import Job

log = logging.getLogger("trainer")

# Below it every gradient that fp16 can hold overflows: the fault is in the model, and no scale helps.
SCALE_FLOOR = 2.0**-10
SHOWN_SAMPLES = 8
ADVICE = "lower optimizer.lr, clip the gradients (train.clip.norm=1.0), use train.amp=none, or look at these samples"


class Losses:
    """The losses of one worker's micro-batches, looked at without waiting for the device.

    On the CPU a loss is looked at in its step. On CUDA the first bad step is remembered on the device until somebody asks.

    Args:
        leaves: micro-batches of this worker in a step.
        device: where the losses are.
    """

    def __init__(self, leaves: int, device: torch.device) -> None:
        self.device, self.leaves = device, leaves
        self.open: list[torch.Tensor] = []
        self.bad: list[int] = []
        self.first = torch.full((), -1, dtype=torch.int64, device=device)
        self.first_bad = torch.zeros(leaves, dtype=torch.bool, device=device)

    def add(self, place: int, loss: torch.Tensor) -> None:
        """Take the mean loss of the step's next micro-batch, a 0-dimensional tensor."""
        if place == 0:
            self.open, self.bad = [], []
        if self.device.type == "cpu":
            if not math.isfinite(loss.item()):
                self.bad.append(place)
        else:
            self.open.append(loss)

    def end_step(self, step: int) -> None:
        """Close the step: `step` updates were completed before it."""
        if self.open:
            bad = ~torch.isfinite(torch.stack(self.open))
            new = bad.any() & (self.first < 0)
            self.first = torch.where(new, step, self.first)
            self.first_bad = torch.where(new, bad, self.first_bad)

    def bad_now(self) -> list[int]:
        """The places of this step's bad losses; on CUDA it waits for the device."""
        return (~torch.isfinite(torch.stack(self.open))).nonzero().flatten().tolist() if self.open else self.bad

    def found(self, step: int, ask: bool) -> tuple[int, list[int]] | None:
        """The first step with a bad loss and the places of its bad micro-batches.

        Args:
            step: the step that was just made.
            ask: wait for the device and look; on the CPU it is always looked at.
        """
        if self.bad:
            return step, self.bad
        if ask and self.device.type != "cpu" and int(self.first) >= 0:
            return int(self.first), self.first_bad.nonzero().flatten().tolist()
        return None


def bad_loss(plan: BatchPlan, step: int, epoch: int, epoch_step: int, rank: int, virtual_ranks: Sequence[int]) -> NonFiniteError:
    """The error that names step, rank and samples.

    Args:
        plan: which samples the step used.
        step: updates completed before the bad one.
        epoch: its epoch.
        epoch_step: updates of that epoch completed before it.
        rank: this worker.
        virtual_ranks: those whose loss is bad.
    """
    samples = where(plan, epoch_step, epoch, virtual_ranks)
    return NonFiniteError(f"step {step + 1}: the training loss on rank {rank} is not finite ({samples}); {ADVICE}")


def bad_gradients(step: int) -> NonFiniteError:
    """The error for gradients that are not finite though every loss is; `step` updates were completed before it."""
    return NonFiniteError(
        f"step {step + 1}: a gradient is not finite, though the loss is (an overflow, a square root or a division at zero?); lower "
        "optimizer.lr, use train.amp=none or change that operation; train.non_finite=skip leaves such updates out"
    )


def where(plan: BatchPlan, epoch_step: int, epoch: int, virtual_ranks: Sequence[int]) -> str:
    """Virtual ranks and their samples, in words."""
    parts = []
    for virtual_rank in virtual_ranks[:2]:
        samples = plan.micro_batch(epoch, epoch_step, virtual_rank).tolist()
        more = f" and {len(samples) - SHOWN_SAMPLES} more" if len(samples) > SHOWN_SAMPLES else ""
        parts.append(f"virtual rank {virtual_rank}, samples {', '.join(map(str, samples[:SHOWN_SAMPLES]))}{more}")
    more = f"; and {len(virtual_ranks) - 2} more virtual ranks" if len(virtual_ranks) > 2 else ""
    return "; ".join(parts) + more


def check_scale(scaler: torch.amp.GradScaler | None, step: int) -> None:
    """Refuse to go on when fp16's loss scale has fallen so far that nothing is learned any more. It waits for the device.

    Raises:
        NonFiniteError: the scale is below its floor.
    """
    if scaler is not None and scaler.get_scale() < SCALE_FLOOR:
        raise NonFiniteError(
            f"step {step}: the fp16 loss scale has fallen to {scaler.get_scale():.3g}, as the gradients overflow at every scale; "
            "use train.amp=bf16 or none, or lower optimizer.lr"
        )


def look_for_non_finite(job: Job, norm: torch.Tensor | None, ask: bool) -> None:
    """Refuse to go on with numbers that are none, or count the update that was left out for them.

    Raises:
        NonFiniteError: a loss or a gradient is NaN or infinite; the text names step, rank and samples.
    """
    state, update = job.state, job.update
    if update.skipped:
        count_skipped(job)
        return
    state.skipped_in_a_row = 0
    found = update.losses.found(state.step, ask)
    looked_at = norm is not None and (ask or job.world.device.type == "cpu") and update.scaler is None
    if looked_at and not math.isfinite(float(norm)):  # type: ignore[arg-type]
        raise first_fault(job, found)  # the sum of gradients is everyone's, so every rank comes here
    if found is not None and job.config.train.non_finite == "raise":
        step, places = found
        raise fault_of(job, step, [update.leaves[place] for place in places])
    if ask:
        check_scale(update.scaler, state.step)


def check_losses(job: Job) -> None:
    """Before a checkpoint and at an epoch's end: see that no loss was bad since it was last looked at. It waits for the device.

    Raises:
        NonFiniteError: one was.
    """
    found = job.update.losses.found(job.state.step - 1, ask=True)
    if found is not None and job.config.train.non_finite == "raise":
        raise fault_of(job, found[0], [job.update.leaves[place] for place in found[1]])


def first_fault(job: Job, found: tuple[int, list[int]] | None) -> NonFiniteError:
    """The error for the first bad loss of all ranks, or for the gradients where every loss is finite. Every rank calls it."""
    steps = torch.full((len(job.update.leaves),), -1, dtype=torch.int64)
    if found is not None:
        steps[found[1]] = found[0]
    everyones = job.world.gather(steps).tolist()
    bad = [step for step in everyones if step >= 0]
    if not bad:
        return bad_gradients(job.state.step)
    return fault_of(job, min(bad), [rank for rank, step in enumerate(everyones) if step == min(bad)])


def fault_of(job: Job, step: int, virtual_ranks: list[int]) -> NonFiniteError:
    """The error for a step in which the losses of these virtual ranks are not finite."""
    state = job.state
    if not job.update.healthy:  # the update before it has spoiled the weights
        return bad_gradients(step - 1)
    rank = virtual_ranks[0] // len(job.update.leaves)
    return bad_loss(job.plan, step, state.epoch, state.epoch_step - (state.step - step), rank, virtual_ranks)


def count_skipped(job: Job) -> None:
    """Take down that an update was left out, and why. Every rank calls it.

    Raises:
        NonFiniteError: too many were left out one after another.
    """
    state, config, update = job.state, job.config.train, job.update
    bad = torch.zeros(len(update.leaves), dtype=torch.int64)
    bad[update.losses.bad_now()] = 1
    virtual_ranks = job.world.gather(bad).nonzero().flatten().tolist()
    if update.scaler is not None and not virtual_ranks:
        return  # the scaler is looking for its scale
    update.undo()
    state.skipped += 1
    state.skipped_in_a_row += 1
    cause = f"its loss is not: {where(job.plan, state.epoch_step, state.epoch, virtual_ranks)}" if virtual_ranks else "every loss is"
    line = f"step {state.step + 1} is left out: a gradient is not finite; {cause}"
    if state.skipped_in_a_row > config.max_skipped:
        raise NonFiniteError(f"{line}; that makes {state.skipped_in_a_row} in a row, more than train.max_skipped; {ADVICE}")
    if job.world.is_main:
        log.warning(line)
