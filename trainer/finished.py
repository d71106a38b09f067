"""A run folder → the model with the weights that count, in evaluation mode, and what belongs to it. Nothing is written there.

The folder may be read-only, and the run may be training now: then its best or newest good checkpoint of this moment is taken.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from trainer import build
from trainer.checkpoint import store
from trainer.checkpoint.saver import refuse_foreign
from trainer.config.checks import splits
from trainer.config.load import load
from trainer.config.schema import Config
from trainer.data import vocabulary
from trainer.data.inputs import Inputs, look_at, recall
from trainer.distributed import World, pick_device
from trainer.errors import CheckpointError, RunFolderError, TrainingError
from trainer.models.weights import averaged
from trainer.rundir import RunDir
from trainer.seed import WEIGHTS, mix, seed_everything
from trainer.state import check_fits, load_other_buffers
from trainer.tasks.base import Task

TRIES = 5  # a run that trains now removes checkpoints while they are looked at
BEST, LAST = "best", "last"


@dataclass(frozen=True)
class Finished:
    """A run's model as an evaluation uses it.

    Args:
        run: the run folder.
        config: its config.
        checkpoint: the name of the checkpoint.
        step: updates that its weights have seen.
        epoch: epochs that were complete.
        averaged: the weights are the run's average (EMA or SWA).
        model: in evaluation mode, on `device`.
        task: what its outputs mean.
        world: this process's place.
        complaints: what was wrong with checkpoints that were passed over.
    """

    run: RunDir
    config: Config
    checkpoint: str
    step: int
    epoch: int
    averaged: bool
    model: nn.Module
    task: Task
    world: World
    complaints: tuple[str, ...] = ()

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.world.device


def open_run(path: str, checkpoint: str = BEST, world: World | None = None, *, as_trained: bool = False) -> Finished:
    """Open a run. With several workers every rank calls it; rank 0 chooses and reads.

    Args:
        path: the run folder.
        checkpoint: ``best`` (the newest where none is best), ``last``, or a checkpoint's name.
        world: this process's place; None: alone, on a GPU where the config allows it and there is one.
        as_trained: compute as training's own evaluations do (``torch.compile``, channels last), and not only with the same weights.

    Raises:
        RunFolderError: no run, or no such checkpoint.
        CheckpointError: none can be used.
        OstinatoError: the model or the task cannot be made.
    """
    run = RunDir(path)
    run.must_exist(str(path))
    config = load(run.config).config
    world = world or alone(config)
    name, complaints, state = "", list[str](), dict[str, Any]()
    if world.is_main:
        name, full, complaints = _read(run, config, checkpoint)
        state = {key: full[key] for key in ("model", "buffers", "ema", "swa", "step", "epoch")}
    state = _from_rank_0(state, world)
    model, average = _model(config, world, state, as_trained)
    task = build.make_task(config, build.make_loss(config, world))
    return Finished(run, config, name, int(state["step"]), int(state["epoch"]), average, model, task, world, tuple(complaints))


def alone(config: Config) -> World:
    """The place of a process without others. A run that was trained on a GPU can be used without one."""
    wanted = "cpu" if config.hardware.device == "cpu" else "auto"
    return World(0, 1, 0, 1, pick_device(wanted, 0, 1))


def _read(run: RunDir, config: Config, wanted: str) -> tuple[str, dict[str, Any], list[str]]:
    """The checkpoint's name, its state, and what was wrong with others."""
    for _ in range(TRIES):
        complaints: list[str] = []
        for name in candidates(run, wanted):
            try:
                state = store.load(run.checkpoints / name)
                refuse_foreign(run.checkpoints / name, config)
                return name, state, complaints
            except CheckpointError as fault:
                if not (run.checkpoints / name).exists():
                    break  # the run has just removed it: look again
                if wanted not in (BEST, LAST) or "other settings" in str(fault):
                    raise
                complaints.append(str(fault))
        else:
            raise CheckpointError("\n".join([*complaints[:3], f"{run.checkpoints}: none of its checkpoints can be used"]))
    raise CheckpointError(f"{run.checkpoints}: its checkpoints vanish while they are read; try again")


def candidates(run: RunDir, wanted: str) -> list[str]:
    """The checkpoints to try, the likeliest first.

    Raises:
        RunFolderError: there is none of that name.
        CheckpointError: there is none at all.
    """
    names = store.names(run.checkpoints)
    if not names:
        raise CheckpointError(f"{run.checkpoints}: no checkpoint yet; the run has saved none")
    newest_first = names[::-1]
    if wanted == LAST:
        return newest_first
    if wanted == BEST:
        best = store.pointed(run.checkpoints, BEST)
        return newest_first if best is None else list(dict.fromkeys([best, *newest_first]))
    if wanted not in names:
        raise RunFolderError(f"{run.checkpoints}: no checkpoint {wanted!r} here; there are best, last, {', '.join(names)}")
    return [wanted]


def _from_rank_0(state: dict[str, Any], world: World) -> dict[str, Any]:
    """Rank 0's state on every rank: the file may be gone when another rank would read it."""
    if world.size == 1:
        return state
    box = torch.empty(0, dtype=torch.uint8)
    if world.is_main:
        file = io.BytesIO()
        torch.save(state, file)
        box = torch.frombuffer(file.getbuffer(), dtype=torch.uint8)
    size = world.broadcast_int(len(box))
    if not world.is_main:
        box = torch.empty(size, dtype=torch.uint8)
    dist.broadcast(box, src=0)
    if world.is_main:
        return state
    found: dict[str, Any] = torch.load(io.BytesIO(box.numpy().tobytes()), map_location="cpu", weights_only=True)
    return found


@torch.no_grad()
def _model(config: Config, world: World, state: dict[str, Any], as_trained: bool) -> tuple[nn.Module, bool]:
    """The model with its weights; whether they are an average."""
    # In evaluation BatchNorm over all workers is the plain one, and nothing is computed again.
    changes: dict[str, Any] = {"sync_batchnorm": False, "recompute": []}
    if not as_trained:
        changes |= {"compile": False, "channels_last": False}
    seed_everything(mix(WEIGHTS, config.seed))
    model = build.make_model(config.model_copy(update={"train": config.train.model_copy(update=changes)}), world, resumes=True)
    check_fits(model.state_dict(), state["model"])
    try:
        model.load_state_dict(state["model"])
        load_other_buffers(model, state["buffers"])
        average = averaged(state)
        for name, tensor in [*model.named_parameters(), *model.named_buffers()] if average else []:
            tensor.copy_(average[name])
    except (KeyError, RuntimeError, ValueError) as fault:
        raise CheckpointError(f"the checkpoint does not fit this config: {fault}") from fault
    return model.eval(), bool(average)


def data_of(finished: Finished, split: str) -> Any:
    """A split's samples behind the evaluation's transforms, the training set's as well.

    Raises:
        OstinatoError: they are not there any more, or are others.
    """
    data = finished.config.data.model_copy(update={"train_transforms": finished.config.data.eval_transforms})
    config = finished.config.model_copy(update={"data": data})
    if not finished.run.vocabulary.exists():
        return build.dataset(config, split)
    sets = dict(zip(("train", "valid", "test"), build.datasets(config), strict=True))  # the words are the training set's
    vocabulary.keep(sets["train"], finished.run.vocabulary, resumed=True)
    return sets[split]


def inputs_of(finished: Finished) -> Inputs:
    """What the run's inputs are: by its note, or where it has none by its data sets.

    Raises:
        OstinatoError: there is neither.
    """
    found = recall(finished.run.inputs)
    if found is not None:
        return found
    config = finished.config
    try:
        dataset = data_of(finished, splits(config)[0])
    except TrainingError as fault:
        raise TrainingError(f"{finished.run.path}: it has no inputs.json, and its data cannot be looked at: {fault}") from fault
    return look_at(dataset, build.eval_transforms(config), config, getattr(dataset, "classes", None))
