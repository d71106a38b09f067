"""Config → objects: the only file that knows every kind of object."""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from trainer.config.schema import Config, Target
from trainer.data.bad_samples import BadSamples
from trainer.data.loader import TrainLoader
from trainer.data.names import size_of
from trainer.data.order import BatchPlan
from trainer.data.transforms import with_transforms
from trainer.distributed import World
from trainer.errors import ConfigError, TrainingError
from trainer.heartbeat import Place
from trainer.metrics.meters import Meters
from trainer.optim.ema import Ema
from trainer.optim.learning_rate import LearningRate, PlateauLearningRate, TorchLearningRate
from trainer.optim.schedules import Plateau
from trainer.registry import resolve
from trainer.seed import WEIGHTS, mix, seed_everything
from trainer.state import TrainState
from trainer.step import Update
from trainer.tasks.base import Sums, Task
from trainer.tasks.choose import auto


@dataclass
class Job:
    """Everything that one worker trains with."""

    config: Config
    world: World
    state: TrainState
    update: Update
    loss: Any
    loader: TrainLoader
    plan: BatchPlan
    train_set: Any
    valid: Any | None
    test: Any | None
    total_steps: int
    place: Place
    bad: BadSamples | None
    task: Task
    like: dict[str, Sums] = field(default_factory=dict)
    """What the task measures of a few samples of each set."""


def build(config: Config, world: World, place: Place | None = None) -> Job:
    """Make every object that the config names; `place` is told where the work is.

    Raises:
        ConfigError: a value that only shows when the object is made.
        TrainingError: the training set is empty or smaller than a global batch.
    """
    assert isinstance(config.train.virtual_ranks, int)
    place = place or Place()
    seed_everything(mix(WEIGHTS, config.seed))
    model: nn.Module = make("model", config.model).to(world.device)
    loss = make("loss", config.loss)
    if isinstance(loss, nn.Module):
        loss = loss.to(world.device)
        if any(p.requires_grad for p in loss.parameters()):
            raise TrainingError(f"loss {config.loss.target}: it has trainable parameters; they belong in the model")
    if getattr(loss, "reduction", "mean") != "mean":
        raise TrainingError(f"loss {config.loss.target}: its reduction is {loss.reduction!r}; the loss must be the mean over the samples")
    train_set = dataset(config, "train")
    plan = BatchPlan(
        n=size_of(train_set, "training set"),
        batch_size=config.data.batch_size,
        virtual_ranks=config.train.virtual_ranks,
        seed=config.seed,
        drop_last=config.data.drop_last,
    )
    total_steps = config.train.epochs * plan.steps_per_epoch
    if config.train.max_steps is not None:
        total_steps = min(total_steps, config.train.max_steps)
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise TrainingError("model: it has no trainable parameter")
    optimizer = make("optimizer", config.optimizer, parameters)
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    # The schedule before any loading: a torch scheduler's constructor writes the first learning rate into the optimizer.
    schedule = make_schedule(config, optimizer, total_steps, plan.steps_per_epoch)
    scaler = torch.amp.GradScaler(world.device.type) if config.train.amp == "fp16" else None
    ema = Ema(model, config.train.ema.decay) if config.train.ema is not None else None
    task = make_task(config, loss)
    meters = Meters(config.train.virtual_ranks // world.size, world.device, task.quick_name)
    changes = [make("batch_transform", target) for target in config.data.batch_transforms]
    update = Update(config, world, model, task, changes, optimizer, scaler, ema, meters, place)
    bad = BadSamples(config.data.max_bad_samples) if config.data.bad_samples == "skip" else None
    loader = TrainLoader(
        train_set,
        plan,
        rank=world.rank,
        world_size=world.size,
        loader_workers=config.data.loader_workers,
        prefetch_factor=config.data.prefetch_factor,
        pin_memory=world.device.type == "cuda",
        bad=bad,
    )
    state = TrainState(model, optimizer, schedule, scaler, ema, meters, loss)
    valid, test = (dataset(config, split) for split in ("valid", "test"))
    return Job(config, world, state, update, loss, loader, plan, train_set, valid, test, total_steps, place, bad, task)


def make(kind: str, target: Target, *positional: Any) -> Any:
    """Call a target with its arguments.

    Raises:
        ConfigError: the target refuses its arguments.
    """
    called = resolve(kind, target.target)
    try:
        return called(*positional, **target.arguments)
    except (TypeError, ValueError) as fault:
        raise ConfigError(f"{kind} {target.target}: {fault}") from fault


def make_task(config: Config, loss: Any) -> Task:
    """The task that the config names, or the one that its loss means."""
    if config.task.target == "auto":
        return auto(loss)
    found = make("task", config.task, loss)
    if not isinstance(found, Task):
        raise ConfigError(f"task {config.task.target}: it is a {type(found).__name__}; it must be a subclass of trainer.tasks.base:Task")
    return found


def dataset(config: Config, split: str) -> Any:
    """The data set of one split with its transforms; None where the config has none."""
    target: Target | None = getattr(config.data, split)
    if target is None:
        return None
    found = make("dataset", target)
    transforms = config.data.train_transforms if split == "train" else config.data.eval_transforms
    return with_transforms(found, [make("transform", transform) for transform in transforms])


def make_schedule(config: Config, optimizer: torch.optim.Optimizer, total_steps: int, steps_per_epoch: int) -> LearningRate:
    """The learning rate over time."""
    target = config.schedule
    called: Any = resolve("schedule", target.target)
    if inspect.isclass(called) and issubclass(called, torch.optim.lr_scheduler.LRScheduler):
        return TorchLearningRate(optimizer, make("schedule", target, optimizer))
    if called is Plateau:
        return PlateauLearningRate(optimizer, make("schedule", target))
    factor = functools.partial(called, total_steps=total_steps, steps_per_epoch=steps_per_epoch, **target.arguments)
    try:
        factor(0)
    except (TypeError, ValueError) as fault:
        raise ConfigError(f"schedule {target.target}: {fault}") from fault
    return LearningRate(optimizer, factor)
