"""What TensorBoard shows besides curves: the first inputs, the graph, weights and gradients, confusion matrices, the table of runs.

Called on rank 0 alone, at the start, at an epoch's end and at the end. Whatever fails here is said, and training goes on.
"""

from __future__ import annotations

import copy
import itertools
import json
import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from trainer.data.keys import sample_keys, seed_sample
from trainer.data.loader import eval_batches
from trainer.data.names import pair, reason
from trainer.data.order import permute
from trainer.data.pictures import Pictures, as_picture, grid
from trainer.metrics import confusion
from trainer.metrics.board import Board
from trainer.metrics.options import final_metrics, scalar_options
from trainer.metrics.writer import MetricsWriter
from trainer.rundir import read_jsonl
from trainer.step import to_device

if TYPE_CHECKING:
    from trainer.build import Job
    from trainer.evaluate import Measured

log = logging.getLogger("trainer")


def draw_start(job: Job, writer: MetricsWriter | None) -> None:
    """Before the first update of a run: pictures of the first inputs, and the graph."""
    if writer is None or writer.board is None:
        return
    if job.state.step > 0:
        if not writer.whole and job.state.epoch_step == 0:
            _draw_again(job, writer)
        return
    if job.config.log.images and (pictures := first_inputs(job, job.config.log.images)):
        writer.board.picture("inputs/train", 0, lambda: np.array(grid(pictures)))
    if job.config.log.graph:
        _draw_graph(job, writer.board)


def first_inputs(job: Job, count: int) -> Pictures:
    """The first training inputs that are pictures, with their labels, as the first epoch will see them; each channel's range is 0 … 1."""
    dataset, n = job.train_set, job.plan.n
    names = [str(name) for name in getattr(dataset, "classes", None) or []]
    numbers = permute(np.arange(min(count, n), dtype=np.int64), n, job.config.seed, 0)
    found: list[tuple[torch.Tensor, str]] = []
    for index, key in zip(numbers.tolist(), sample_keys(numbers, job.config.seed, 0).tolist(), strict=True):
        seed_sample(key)
        try:
            value, target = _read(dataset, index)
        except Exception:
            continue  # training meets it, and knows what to do about it
        picture = stretched(value)
        if picture is not None:
            found.append((picture, _label(target, names)))
    if not found:
        log.warning("log.images: the training inputs are no pictures; none is shown")
    return found


def stretched(value: Any) -> torch.Tensor | None:
    """An input as a picture (channels, height, width) whose channels each go from 0 to 1; None: it is none."""
    value = torch.as_tensor(value) if isinstance(value, np.ndarray) else value
    picture = as_picture(value) if isinstance(value, torch.Tensor) and value.numel() else None
    if picture is None:
        return None
    low, high = picture.amin((1, 2), keepdim=True), picture.amax((1, 2), keepdim=True)
    return torch.where(high > low, (picture - low) / (high - low).clamp(min=1e-12), picture)


def _read(dataset: Any, index: int) -> tuple[Any, Any]:
    if hasattr(dataset, "get_batch"):
        inputs, targets = dataset.get_batch(np.array([index]))
        return inputs[0], targets[0]
    value, target = pair(dataset[index])
    return value, target


def _label(target: Any, names: list[str]) -> str:
    try:
        number = float(target)
    except (TypeError, ValueError, RuntimeError):
        return ""
    return names[int(number)] if number.is_integer() and 0 <= number < len(names) else f"{number:g}"


def _draw_graph(job: Job, board: Board) -> None:
    """The graph of a copy: tracing runs the model, and must leave no trace in BatchNorm's statistics."""
    try:
        _, inputs, _ = next(itertools.islice(eval_batches(job.train_set, 2, seed=job.config.seed), 1))
        board.graph(copy.deepcopy(job.state.model), to_device(inputs, job.world.device))
    except Exception as fault:
        log.warning("log.graph: the graph could not be drawn (%s)", reason(fault))


def draw_epoch(job: Job, writer: MetricsWriter) -> None:
    """After an epoch: how weights and the last update's gradients (of the global batch, clipped) are spread."""
    every = job.config.log.histograms_every
    if writer.board is None or not every or job.state.epoch % every:
        return
    named = list(job.state.model.named_parameters())
    tensors = [(f"weights/{name}", parameter.detach()) for name, parameter in named]
    tensors += [(f"gradients/{name}", parameter.grad) for name, parameter in named if parameter.grad is not None]
    writer.board.histograms(job.state.step, tensors)


def draw_evaluation(job: Job, writer: MetricsWriter, split: str, found: Measured) -> None:
    """After an evaluation: the confusion matrix, if the task measures one."""
    _draw_confusion(job, writer, split, job.state.step, found.details.get("confusion"))


def _draw_again(job: Job, writer: MetricsWriter) -> None:
    """At a resume after the last epoch: the picture that TensorBoard forgot, and that cannot be drawn from rows."""
    try:
        newest = json.loads(writer.run.evaluation("valid").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    if newest.get("step") == job.state.step:
        _draw_confusion(job, writer, "valid", job.state.step, newest.get("confusion"))


def _draw_confusion(job: Job, writer: MetricsWriter, split: str, step: int, matrix: list[list[int]] | None) -> None:
    if writer.board is None or not matrix:
        return
    names = [str(name) for name in getattr(getattr(job, split), "classes", None) or getattr(job.train_set, "classes", None) or []]
    writer.board.picture(f"confusion/{split}", step, lambda: confusion.draw(matrix, names))


def draw_end(job: Job, writer: MetricsWriter) -> None:
    """At the end: the run's line in the table of runs."""
    if writer.board is not None:
        writer.board.hparams(scalar_options(job.config), final_metrics(read_jsonl(writer.run.metrics)))
