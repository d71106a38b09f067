"""Start reading here: what a run does, from its first step to its last."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from trainer import fingerprint
from trainer.agreement import Agreement
from trainer.averaged import average, swapped_in
from trainer.build import Job, thaw
from trainer.checkpoint.saver import Saver
from trainer.config.schema import Config
from trainer.errors import ConfigError, TrainingError
from trainer.evaluate import Measured, evaluate, try_some
from trainer.files import json_text, write_atomic
from trainer.metrics.drawings import draw_end, draw_epoch, draw_evaluation, draw_start
from trainer.metrics.progress import epoch_line, figures
from trainer.metrics.writer import MetricsWriter
from trainer.non_finite import check_losses, look_for_non_finite
from trainer.samples import keep_samples
from trainer.stop import StopRequest
from trainer.tasks.base import less_is_better_of, no_direction

log = logging.getLogger("trainer")


@dataclass
class Around:
    """What surrounds the loop: who writes, who saves, who listens. Rank 0 has a writer."""

    writer: MetricsWriter | None
    saver: Saver
    request: StopRequest
    agreement: Agreement


def train(job: Job, around: Around) -> bool:
    """Train from where the state is to the end, and test. True: finished; False: stopped, with a checkpoint."""
    if asked_to_stop(around):
        return False
    try_out(job)
    draw_start(job, around.writer)
    if not fit(job, around):
        return False
    return test(job, around)


def fit(job: Job, around: Around) -> bool:
    """All remaining epochs. False: stopped, on request or because the config wants a pause here."""
    state, patience = job.state, job.config.train.early_stop.patience if job.config.train.early_stop else math.inf
    while (state.step < job.total_steps or state.epoch_step > 0) and state.bad_epochs < patience:
        if is_paused(job):
            return False
        began, samples = time.monotonic(), state.samples
        if not train_epoch(job, around):
            return False
        if not end_epoch(job, around, (state.samples - samples) / (time.monotonic() - began)):
            return False
    return True


def is_paused(job: Job) -> bool:
    """Whether the run stands at the end of the epoch after which it is to pause, or of a later one; the last epoch's end is no pause."""
    pause = job.config.run.pause_after_epoch
    return pause is not None and job.state.epoch >= pause and job.state.epoch_step == 0


def train_epoch(job: Job, around: Around) -> bool:
    """The open epoch's remaining steps. False: stopped on request."""
    state, config, place, agreement = job.state, job.config, job.place, around.agreement
    log_every, fingerprint_every, save_every = config.log.every_steps, config.log.fingerprint_every, config.checkpoint.every_steps
    place.epoch, place.phase = state.epoch, "load"
    agreement.begin()
    thaw(job)
    if state.step >= job.total_steps or state.epoch_step >= job.plan.steps_per_epoch:
        return True
    now = time.monotonic()
    for micro_batches in job.loader.epoch(state.epoch, state.epoch_step):
        place.phase = "forward"
        asked, now = now, time.monotonic()
        place.waited_s += now - asked
        agreement.ask(around.request.by is not None, around.saver.due(now), now)
        around.saver.check()
        state.schedule.apply(state.step)
        samples, counts = job.plan.samples(state.epoch_step), job.plan.counts(state.epoch_step, job.update.leaves)
        log_now = (state.step + 1) % log_every == 0
        norm = job.update(micro_batches, state.step, counts, samples, want_norm=log_now)
        look_for_non_finite(job, norm, log_now)
        state.step += 1
        state.epoch_step += 1
        state.samples += samples
        place.step, place.begun = state.step, True
        if log_now:
            log_step(job, around, norm)
        if fingerprint_every and state.step % fingerprint_every == 0:
            compare_ranks(job, around)
        stop, save = agreement.answer()
        if stop or ((save or (save_every and state.step % save_every == 0)) and not at_end(job)):
            place.phase = "save"
            check_losses(job)
            around.saver.save(job, around.writer)
        if stop:
            return False
        if at_end(job):
            break
        place.phase, began, now = "load", now, time.monotonic()
        place.worked_s += now - began
    return True


def at_end(job: Job) -> bool:
    """Whether the open epoch has no step left: `end_epoch` saves anyway."""
    return job.state.epoch_step == job.plan.steps_per_epoch or job.state.step == job.total_steps


def asked_to_stop(around: Around) -> bool:
    """Whether a stop is requested, the same answer on every rank: for the moments between steps."""
    around.agreement.ask(around.request.by is not None, False, time.monotonic())
    return around.agreement.answer()[0]


def end_epoch(job: Job, around: Around, samples_per_s: float) -> bool:
    """Close the epoch: its means, the validation, the best so far, a checkpoint. False: stopped on request, the epoch still open."""
    state, config, writer = job.state, job.config, around.writer
    check_losses(job)
    if not average(job, begin_evaluation(job, around)):
        return leave_open(job, around)
    valid: dict[str, float] = {}
    last = state.step == job.total_steps
    if job.valid is not None and ((state.epoch + 1) % config.train.evaluate_every == 0 or last):
        found = evaluate_set(job, around, "valid")
        if found is None:
            return leave_open(job, around)
        valid = found.metrics
        write_details(job, around, "valid", found)
    if job.bad is not None:
        job.bad.together(job.world)
    trained = state.meters.close_epoch(job.world)
    state.epoch += 1
    watched, is_best = watch(job, valid)
    rates = learning_rates(job)  # the epoch's own: the schedule may move them now
    state.schedule.end_epoch(watched, less_is_better(job, valid))
    state.epoch_step = 0
    if writer is not None:
        now = time.time()
        writer.row(now, "epoch", state.step, state.epoch, {**trained, **rates})
        if valid:
            writer.row(now, "valid", state.step, state.epoch, valid)
        draw_epoch(job, writer)
        log.info(epoch_line(state.epoch, config.train.epochs, state.step, trained, valid, samples_per_s))
    job.place.phase = "save"
    around.saver.save(job, writer, best=watched if is_best else None)
    return True


def leave_open(job: Job, around: Around) -> bool:
    """Save in the midst of an epoch's end; whoever goes on from there begins that end anew. False, for the caller to return."""
    job.place.phase = "save"
    around.saver.save(job, around.writer)
    return False


def begin_evaluation(job: Job, around: Around) -> Callable[[], bool]:
    """Enter the phase; what it gives is to be asked before each batch: whether to break off, because a stop is requested."""
    job.place.phase = "evaluate"
    around.agreement.begin()

    def leave() -> bool:
        job.place.tick += 1
        return asked_to_stop(around)

    return leave


def evaluate_set(job: Job, around: Around, split: str) -> Measured | None:
    """The metrics over a data set with the averaged weights, if the run keeps an average; None: a stop came in between."""
    leave = begin_evaluation(job, around)
    if split not in job.like:
        job.like[split] = try_some(job.state.model, job.task, getattr(job, split), job.config, job.world, job.bad)
    with swapped_in(job):
        return evaluate(job.state.model, job.task, getattr(job, split), job.config, job.world, job.like[split], leave, job.bad)


def write_details(job: Job, around: Around, split: str, found: Measured) -> None:
    """Keep the newest confusion matrix and the figures for each class in ``evaluation-valid.json``, and draw the matrix."""
    if around.writer is not None and found.details:
        text = json_text({"step": job.state.step, **found.metrics, **found.details}) + "\n"
        write_atomic(around.saver.run.evaluation(split), text.encode(), durable=False)
        draw_evaluation(job, around.writer, split, found)


def try_out(job: Job) -> None:
    """Evaluate a few samples of each set: what cannot be trained or evaluated shows now, and not after the first epoch.

    Raises:
        TrainingError: the labels do not fit the model's output, or the watched metric is none of the task's.
        ConfigError: it is not said whether less or more of the watched metric is better.
    """
    for split in ("train_set", "valid", "test"):
        dataset = getattr(job, split)
        if dataset is not None:
            job.like[split] = try_some(job.state.model, job.task, dataset, job.config, job.world, job.bad)
    watched = job.config.train.monitor
    if "valid" in job.like and watched != "auto":
        known = {"loss", *job.task.metrics(job.like["valid"], 8)}
        if watched not in known:
            raise TrainingError(f"train.monitor: the validation has no {watched!r}; it has {', '.join(sorted(known))}")
        if job.config.train.monitor_mode == "auto" and less_is_better_of(type(job.task), watched) is None:
            raise ConfigError(f"train.monitor: {no_direction(type(job.task), watched)}")


def watch(job: Job, valid: dict[str, float]) -> tuple[float | None, bool]:
    """The watched metric's value, and whether it is the best so far: by however little, while early stop counts from its margin on."""
    state, config = job.state, job.config.train
    if not valid:
        return None, False
    value, margin = valid.get(watched_name(job.config, valid), math.nan), config.early_stop.min_delta if config.early_stop else 0.0
    less = less_is_better(job, valid)
    best = is_better(value, state.best, less)
    if best:
        state.best, state.best_step = value, state.step
    if is_better(value, state.counted, less, margin):
        state.counted, state.bad_epochs = value, 0
    else:
        state.bad_epochs += 1
    return value, best


def is_better(value: float, than: float | None, less: bool, margin: float = 0.0) -> bool:
    """Whether a metric is better than another value, by more than a margin; a NaN is not: nothing would ever be better than it."""
    return math.isfinite(value) and (than is None or (value < than - margin if less else value > than + margin))


def watched_name(config: Config, valid: dict[str, float]) -> str:
    """The metric that says which checkpoint is best."""
    if config.train.monitor != "auto":
        return config.train.monitor
    return "accuracy" if "accuracy" in valid else "loss"


def less_is_better(job: Job, valid: dict[str, float]) -> bool:
    """Whether the watched metric should fall."""
    mode = job.config.train.monitor_mode
    return mode == "min" if mode != "auto" else bool(less_is_better_of(type(job.task), watched_name(job.config, valid)))


def test(job: Job, around: Around) -> bool:
    """Evaluate the test set once, with the best checkpoint's weights where there is one, and close the run. False: stopped on request."""
    state, writer = job.state, around.writer
    job.place.phase = "save"
    around.saver.wait()
    weights = fingerprint.sha256(state.model.state_dict())
    name = around.saver.load_best(job)
    found: Measured | None = Measured({})
    if job.test is not None:
        found = evaluate_set(job, around, "test")
    if found is None:
        return False
    if writer is not None:
        if found.metrics:
            writer.row(time.time(), "test", state.step, state.epoch, found.metrics)
            write_details(job, around, "test", found)
            log.info(f"test {figures(found.metrics)} (checkpoint {name})")
        with swapped_in(job):
            keep_samples(job, around.saver.run, "valid" if job.test is None else "test")
        draw_end(job, writer)
        around.saver.run.event("finished", attempt=writer.attempt, step=state.step, weights=weights)
    return True


def log_step(job: Job, around: Around, norm: torch.Tensor | None) -> None:
    """One row of the metrics; the only place in an epoch that waits for the device."""
    state = job.state
    values = state.meters.close_window(job.world)
    if around.writer is not None:
        if norm is not None and math.isfinite(float(norm)):
            values["grad_norm"] = float(norm)
        if job.config.train.non_finite == "skip":
            values["skipped"] = state.skipped
        around.writer.row(time.time(), "train", state.step, state.epoch, {**values, **learning_rates(job)})


def learning_rates(job: Job) -> dict[str, float]:
    """The learning rates in use, by group where there are several."""
    groups = job.state.optimizer.param_groups
    if len(groups) == 1:
        return {"lr": float(groups[0]["lr"])}
    return {f"lr/{group.get('name', number)}": float(group["lr"]) for number, group in enumerate(groups)}


def compare_ranks(job: Job, around: Around) -> None:
    """Fingerprint the weights, and see that all ranks have the same.

    Raises:
        TrainingError: a rank has drifted apart.
    """
    state = job.state
    own = fingerprint.quick([*state.model.parameters(), *state.model.buffers()])
    prints = job.world.gather(torch.tensor([int(own, 16) - (1 << 63)])).tolist()
    odd = [rank for rank, value in enumerate(prints) if value != prints[0]]
    if odd:
        raise TrainingError(
            f"step {state.step}: the weights of rank {', '.join(map(str, odd))} differ from rank 0's; "
            "something in the model or the loss changes weights by rank or by local data"
        )
    if around.writer is not None:
        around.writer.row(time.time(), "weights", state.step, state.epoch, {"fingerprint": own})
