"""Config → objects: the only file that knows every kind of object."""

from __future__ import annotations

import functools
import inspect
import logging
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from trainer.config.schema import Config, Target
from trainer.config.targets import is_numbers
from trainer.data import vocabulary
from trainer.data.bad_samples import BadSamples
from trainer.data.loader import TrainLoader
from trainer.data.names import size_of
from trainer.data.order import BatchPlan
from trainer.data.splits import check_same_classes
from trainer.data.splits import split as share_of
from trainer.data.transforms import make_transform, with_transforms
from trainer.data.vision_sets import make_set
from trainer.distributed import World
from trainer.errors import ConfigError, TrainingError
from trainer.heartbeat import Place
from trainer.metrics.meters import Meters
from trainer.models.frozen import Frozen
from trainer.models.groups import parameter_groups, refuse_idle
from trainer.models.shape import shape_up
from trainer.models.start import apply_start
from trainer.optim.averaging import Swa
from trainer.optim.ema import Ema
from trainer.optim.learning_rate import LearningRate, PlateauLearningRate, TorchLearningRate
from trainer.optim.schedules import Plateau
from trainer.registry import resolve
from trainer.seed import WEIGHTS, mix, seed_everything
from trainer.state import TrainState
from trainer.step import Update
from trainer.tasks.base import Sums, Task
from trainer.tasks.choose import auto

log = logging.getLogger("trainer")


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
    frozen: Frozen
    changes: list[Any]
    """The transforms of whole micro-batches."""
    like: dict[str, Sums] = field(default_factory=dict)
    """What the task measures of a few samples of each set."""


def build(config: Config, world: World, place: Place | None = None, *, resumes: bool = False) -> Job:
    """Make every object that the config names.

    Args:
        config: the run's config, `virtual_ranks` filled in.
        world: this worker's place among the others.
        place: told where the work is.
        resumes: a checkpoint will be loaded, so the weights' own start does not matter.

    Raises:
        ConfigError: a value that only shows when the object is made.
        TrainingError: a data set is empty or too small, or does not fit the model.
    """
    assert isinstance(config.train.virtual_ranks, int)
    place = place or Place()
    seed_everything(mix(WEIGHTS, config.seed))
    model = make_model(config, world, resumes)
    loss = make_loss(config, world)
    task = make_task(config, loss)
    train_set, valid, test = datasets(config)
    for name, other in (("validation set", valid), ("test set", test)):
        if other is not None:
            check_same_classes(train_set, other, name)
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
    frozen = Frozen(model, config.freeze)
    optimizer = make_optimizer(config, model, frozen)
    # The schedule before any loading: a torch scheduler's constructor writes the first learning rate into the optimizer.
    schedule = make_schedule(config, optimizer, total_steps, plan.steps_per_epoch)
    state = TrainState(
        model,
        optimizer,
        schedule,
        scaler=torch.amp.GradScaler(world.device.type) if config.train.amp == "fp16" else None,
        ema=Ema(model, config.train.ema.decay) if config.train.ema is not None else None,
        meters=Meters(config.train.virtual_ranks // world.size, world.device, task.quick_name),
        loss=loss,
        swa=Swa(model) if config.train.swa is not None else None,
    )
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
    changes = batch_transforms(config, train_set)
    frozen.apply(0)
    update = Update(config, world, state, task, changes, place)
    return Job(config, world, state, update, loss, loader, plan, train_set, valid, test, total_steps, place, bad, task, frozen, changes)


def make(kind: str, target: Target, *positional: Any) -> Any:
    """Call a target with its arguments.

    Raises:
        ConfigError: the target refuses its arguments.
    """
    called = resolve(kind, target.target)
    try:
        if kind == "transform":
            return make_transform(called, target.arguments)
        if kind == "dataset":
            return make_set(called, target.arguments)
        return called(*positional, **target.arguments)
    except (TypeError, ValueError) as fault:
        raise ConfigError(f"{kind} {target.target}: {fault}") from fault


def make_model(config: Config, world: World, resumes: bool = False) -> nn.Module:
    """The model as training begins with it, on its device."""
    model: nn.Module = make("model", config.model)
    if not resumes:
        lines = apply_start(model, config.start)
        for line in lines if world.is_main else []:
            log.info(line)
    return shape_up(model.to(world.device), config.train, world.device)


def make_loss(config: Config, world: World) -> Any:
    """The loss: the mean over the samples, without parameters of its own."""
    loss = make("loss", _with_tensors(config.loss))
    if isinstance(loss, nn.Module):
        loss = loss.to(world.device)
        if any(p.requires_grad for p in loss.parameters()):
            raise TrainingError(f"loss {config.loss.target}: it has trainable parameters; they belong in the model")
    if getattr(loss, "reduction", "mean") != "mean":
        raise TrainingError(f"loss {config.loss.target}: its reduction is {loss.reduction!r}; the loss must be the mean over the samples")
    return loss


def _with_tensors(target: Target) -> Target:
    """A loss's lists of numbers as tensors where it takes tensors: ``weight``, ``pos_weight``."""
    lists = {name: value for name, value in target.arguments.items() if is_numbers(value)}
    if not lists:
        return target
    parameters = inspect.signature(resolve("loss", target.target)).parameters
    takes = [name for name in lists if name in parameters and "Tensor" in str(parameters[name].annotation)]
    return target.model_copy(update={name: torch.tensor(lists[name], dtype=torch.float32) for name in takes})


def make_optimizer(config: Config, model: nn.Module, frozen: Frozen) -> torch.optim.Optimizer:
    """The optimizer over the config's groups; learning rates scaled with the batch where that is asked for."""
    groups = parameter_groups(model, config.groups, frozen.for_ever)
    if not any(group["params"] for group in groups):
        raise TrainingError("model: it has no trainable parameter")
    if frozen.all_until is not None:
        raise TrainingError(f"freeze: no parameter trains before epoch {frozen.all_until}; leave one free from the beginning (but: head)")
    optimizer: torch.optim.Optimizer = make("optimizer", config.optimizer, groups)
    refuse_idle(optimizer, config.groups)
    factor = config.data.batch_size / config.train.lr_for_batch if config.train.lr_for_batch is not None else 1.0
    for group in optimizer.param_groups:
        group["lr"] *= factor
        group["initial_lr"] = group["lr"]
    return optimizer


def batch_transforms(config: Config, train_set: Any) -> list[Any]:
    """The transforms of whole micro-batches, told how many classes there are."""
    changes = [make("batch_transform", target) for target in config.data.batch_transforms]
    classes = config.model.arguments.get("num_classes")  # before the set's: its labels may lack the highest class
    if not isinstance(classes, int) and hasattr(train_set, "classes"):
        classes = len(train_set.classes)
    for change in changes:
        if getattr(change, "num_classes", 0) is None:
            change.num_classes = classes
    return changes


def thaw(job: Job) -> None:
    """Freeze and unfreeze what the open epoch asks for; every rank calls it at an epoch's start."""
    if job.frozen.apply(job.state.epoch):
        job.update.close()
        job.update = Update(job.config, job.world, job.state, job.task, job.changes, job.place)
    job.state.model.train()
    job.frozen.train_mode(job.state.model)


def make_task(config: Config, loss: Any) -> Task:
    """The task that the config names, or the one that its loss means."""
    if config.task.target == "auto":
        return auto(loss)
    found = make("task", config.task, loss)
    if not isinstance(found, Task):
        raise ConfigError(f"task {config.task.target}: it is a {type(found).__name__}; it must be a subclass of trainer.tasks.base:Task")
    return found


def datasets(config: Config) -> tuple[Any, Any | None, Any | None]:
    """The training, the validation and the test set; where they have a vocabulary, it is the training set's.

    Raises:
        TrainingError: they have different ones, and cannot share.
    """
    train_set, valid, test = (dataset(config, split) for split in ("train", "valid", "test"))
    vocabulary.share(train_set, valid, "validation set")
    vocabulary.share(train_set, test, "test set")
    return train_set, valid, test


def dataset(config: Config, split: str) -> Any:
    """The data set of one split with its transforms; None where the config has none."""
    data = config.data
    target: Target | None = getattr(data, split)
    if split != "test" and data.valid_fraction is not None:
        rest, share = share_of(make("dataset", data.train), data.valid_fraction, data.split_seed, data.stratified)
        vocabulary.fit_on_part(rest)
        found = rest if split == "train" else share
    elif target is None:
        return None
    else:
        found = make("dataset", target)
    transforms = data.train_transforms if split == "train" else data.eval_transforms
    return with_transforms(found, [make("transform", transform) for transform in transforms])


def eval_transforms(config: Config) -> list[Any]:
    """The transforms of evaluations."""
    return [make("transform", transform) for transform in config.data.eval_transforms]


def make_schedule(config: Config, optimizer: torch.optim.Optimizer, total_steps: int, steps_per_epoch: int) -> LearningRate:
    """The learning rate over time."""
    target = config.schedule
    called: Any = resolve("schedule", target.target)
    if inspect.isclass(called) and issubclass(called, torch.optim.lr_scheduler.LRScheduler):
        return TorchLearningRate(optimizer, make("schedule", target, optimizer))
    if called is Plateau:
        return PlateauLearningRate(optimizer, make("schedule", target), steps_per_epoch)
    factor = functools.partial(called, total_steps=total_steps, steps_per_epoch=steps_per_epoch, **target.arguments)
    try:
        factor(0)
    except (TypeError, ValueError) as fault:
        raise ConfigError(f"schedule {target.target}: {fault}") from fault
    return LearningRate(optimizer, factor)
