"""What no single option can see: options that contradict each other. Pure, and free of torch; nothing is changed here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from trainer.config.schema import Config, Target
from trainer.config.strict_yaml import KeyPath, show

Problem = tuple[KeyPath, str]

_NEEDS_METRIC = ("plateau", "reducelronplateau")
_MIXING = re.compile(r"(trainer\.data\.batch_transforms:.*|mixup|cutmix|mix_?up_?or_?cut_?mix)", re.IGNORECASE)
_IN_MEMORY = ("in_memory", "trainer.data.whole_batch:InMemory")
_WRAPPERS = {
    **dict.fromkeys(_IN_MEMORY, "{target: cifar10, root: data}"),
    "features": "{target: resnet18}",
    "trainer.models.features:features": "{target: resnet18}",
}
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def problems(config: Config) -> list[Problem]:
    """Every contradiction, as (path, message)."""
    found = [*_batch(config), *_loss(config), *_hardware(config), *_supervision(config)]
    found += [*_shares(config), *_start(config), *_schedule(config), *_validation(config), *_unnamed(config), *_bad_samples(config)]
    for path, _, target in targets(config):
        found += _target_name(path, target)
    return found


def batch_problem(batch_size: int, virtual_ranks: int) -> str | None:
    """Why a batch cannot be split over so many virtual ranks, with the nearest sizes that can; None when it can."""
    left_over = batch_size % virtual_ranks
    if not left_over:
        return None
    below, above = batch_size - left_over, batch_size - left_over + virtual_ranks
    instead = f"{below} or {above}" if below else str(above)
    return f"batch_size {batch_size} does not divide over {virtual_ranks} virtual ranks; use {instead}"


def divisors(number: int) -> list[int]:
    """All numbers that divide this one, ascending: of virtual ranks, the numbers of workers that can share them."""
    return [d for d in range(1, number + 1) if number % d == 0]


def targets(config: Config) -> Iterator[tuple[KeyPath, str, Target]]:
    """Every target of a config: where it stands, its kind in the registry, and itself; those among another's arguments after that one."""
    for path, kind, target in _outer_targets(config):
        yield path, kind, target
        yield from _inner_targets(path, kind, target.arguments if kind == "transform" else _wrapped(target))


def _wrapped(target: Target) -> dict[str, Any]:
    """The argument in which a target takes another one of its kind: a model, or a data set."""
    return {"of": target.arguments.get("of")} if target.target in _WRAPPERS else {}


def _inner_targets(path: KeyPath, kind: str, value: Any) -> Iterator[tuple[KeyPath, str, Target]]:
    """The targets in a value, at any depth of lists and mappings: a transform's own argument is one wherever it stands."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in entries:
        if isinstance(entry, dict) and isinstance(entry.get("target"), str) and entry["target"]:
            yield (*path, key), kind, (target := Target.model_validate(entry))
            yield from _inner_targets((*path, key), kind, target.arguments if kind == "transform" else _wrapped(target))
        elif kind == "transform" and isinstance(entry, list):
            yield from _inner_targets((*path, key), kind, entry)


def _outer_targets(config: Config) -> Iterator[tuple[KeyPath, str, Target]]:
    yield ("model",), "model", config.model
    for position, rule in enumerate(config.start.init):
        yield ("start", "init", position), "initialiser", rule
    yield ("loss",), "loss", config.loss
    for split in ("train", "valid", "test"):
        dataset = getattr(config.data, split)
        if dataset is not None:
            yield ("data", split), "dataset", dataset
    kinds = {"train_transforms": "transform", "eval_transforms": "transform", "batch_transforms": "batch_transform"}
    for name, kind in kinds.items():
        for position, transform in enumerate(getattr(config.data, name)):
            yield ("data", name, position), kind, transform
    if config.task.target != "auto":
        yield ("task",), "task", config.task
    yield ("optimizer",), "optimizer", config.optimizer
    yield ("schedule",), "schedule", config.schedule


def _batch(config: Config) -> Iterator[Problem]:
    ranks = config.train.virtual_ranks
    if ranks != "auto" and (problem := batch_problem(config.data.batch_size, ranks)):
        yield ("data", "batch_size"), problem
    mixing = [n for n, change in enumerate(config.data.batch_transforms) if _MIXING.fullmatch(change.target)]
    if mixing and ranks == config.data.batch_size:
        change = config.data.batch_transforms[mixing[0]].target
        yield (
            ("data", "batch_transforms", mixing[0]),
            f"{change} has nothing to mix: batch_size {ranks} over {ranks} virtual ranks is one sample in a micro-batch; "
            "use a larger batch, or fewer virtual ranks",
        )


def _loss(config: Config) -> Iterator[Problem]:
    reduction = config.loss.arguments.get("reduction", "mean")
    if reduction != "mean":
        yield ("loss", "reduction"), f"the loss must be the mean over the samples, not {show(reduction)}; leave reduction out"


def _hardware(config: Config) -> Iterator[Problem]:
    if config.train.amp == "fp16" and config.hardware.device == "cpu":
        yield ("train", "amp"), "fp16 needs CUDA, and hardware.device is cpu; use bf16 or none"
    if config.hardware.cudnn_benchmark and config.hardware.deterministic:
        yield (
            ("hardware", "cudnn_benchmark"),
            "it gives other bits in each run, and hardware.deterministic is true; set one of them to false",
        )
    if config.train.sync_batchnorm and config.hardware.device == "cpu":
        yield ("train", "sync_batchnorm"), "it needs CUDA, and hardware.device is cpu; leave it out"
    if config.train.compile and config.train.recompute:
        yield ("train", "recompute"), "torch.compile decides itself what is computed again; leave out one of the two"


def _supervision(config: Config) -> Iterator[Problem]:
    limit, collective = config.supervision.stuck_after_s, config.hardware.collective_timeout_s
    if limit >= collective:
        yield (
            ("supervision", "stuck_after_s"),
            f"{limit:g} s is not below hardware.collective_timeout_s ({collective:g} s), so that workers give up before they are examined",
        )


def _shares(config: Config) -> Iterator[Problem]:
    """Parts of the data and of the run that would be empty, or named twice."""
    data, swa = config.data, config.train.swa
    if data.valid is not None and data.valid_fraction is not None:
        yield (
            ("data", "valid_fraction"),
            "it takes the validation set out of data.train, and data.valid names one; leave out one of the two",
        )
    if data.stratified and data.valid_fraction is None:
        yield ("data", "stratified"), "it says how data.valid_fraction is chosen, which is not set"
    if swa is not None and (problem := _beyond(config, swa.start_epoch)):
        yield ("train", "swa", "start_epoch"), problem
    if swa is not None and swa.start_epoch == 0 and config.train.ema is not None:
        yield (
            ("train", "ema"),
            "train.swa is evaluated in its place from epoch 0 on; leave out one of the two, or let train.swa start later",
        )


def idle(config: Config) -> Iterator[str]:
    """What this run is too short for, one line each. No contradiction: a config for 200 epochs may be tried for one."""
    for number, rule in enumerate(config.freeze):
        if rule.until_epoch is not None and (problem := _beyond(config, rule.until_epoch)):
            yield f"freeze.{number}.until_epoch: {problem}; it stays frozen"
    pause = config.run.pause_after_epoch
    if pause is not None and pause >= config.train.epochs:
        yield f"run.pause_after_epoch: the whole run has {config.train.epochs} epochs, so there is no pause"
    given = config.schedule.arguments
    epochs = given.get("warmup_epochs")
    if isinstance(epochs, (int, float)) and epochs >= config.train.epochs:
        yield f"schedule.warmup_epochs: the warm-up takes {epochs:g} epochs, and the whole run has {config.train.epochs}"
    named = given.get("epochs")
    for number, epoch in enumerate(named if isinstance(named, list) else ()):
        if type(epoch) is int and (problem := _beyond(config, epoch)):
            yield f"schedule.epochs.{number}: {problem}"


def _beyond(config: Config, epoch: int) -> str | None:
    """Why nothing can begin with an epoch; None: the run has it."""
    last = config.train.epochs - 1
    return f"there is no epoch {epoch}: counted from 0, the last one is {last}" if epoch > last else None


def _schedule(config: Config) -> Iterator[Problem]:
    """What a schedule of ours has in another way; arguments of other kinds are refused by their signature."""
    name = config.schedule.target.removeprefix("trainer.optim.schedules:").lower()
    given = config.schedule.arguments
    if name == "one_cycle":
        for option in given.keys() & {"warmup_epochs", "warmup_steps"}:
            yield ("schedule", option), "one_cycle has its own way up, the share pct_start of the run; leave this one out"


def _start(config: Config) -> Iterator[Problem]:
    """What is said about pretrained weights, where there are none."""
    start, without = config.start, "it is about start.pretrained, which is not set"
    if start.pretrained is None and start.skip:
        yield ("start", "skip"), without
    if start.pretrained is None and not start.strict:
        yield ("start", "strict"), without


def _unnamed(config: Config) -> Iterator[Problem]:
    """What must hold a target, and holds none."""
    for path, _, target in targets(config):
        if target.target in _WRAPPERS and "of" in target.arguments:
            inside = target.arguments["of"]
            if not isinstance(inside, dict) or not isinstance(inside.get("target"), str) or not inside["target"]:
                yield (*path, "of"), f"must be a mapping with a target, such as {_WRAPPERS[target.target]}, not {show(inside)}"


def _bad_samples(config: Config) -> Iterator[Problem]:
    """A data set that reads all of its samples when it is made, before one could take another's place."""
    if config.data.bad_samples != "skip":
        return
    for split in ("train", "valid", "test"):
        target: Target | None = getattr(config.data, split)
        if target is not None and target.target in _IN_MEMORY:
            yield (
                ("data", "bad_samples"),
                f"data.{split} is in_memory, which reads all samples at the start and cannot skip; leave out one of the two",
            )
            return


def _validation(config: Config) -> Iterator[Problem]:
    """What needs a validation set, where there is none."""
    if config.data.valid is not None or config.data.valid_fraction is not None:
        return
    without = "neither data.valid nor data.valid_fraction is set"
    if config.train.early_stop is not None:
        yield ("train", "early_stop"), f"it watches a validation metric, and {without}"
    if config.train.monitor != "auto":
        yield ("train", "monitor"), f"'{config.train.monitor}' is a validation metric, and {without}"
    if config.train.monitor_mode != "auto":
        yield ("train", "monitor_mode"), f"it belongs to a validation metric, and {without}"
    if config.schedule.target.rpartition(":")[2].lower() in _NEEDS_METRIC:
        yield ("schedule", "target"), f"{config.schedule.target} follows a validation metric, and {without}"


def _target_name(path: KeyPath, target: Target) -> Iterator[Problem]:
    """A name that can be no target, whatever is installed."""
    module, colon, name = target.target.partition(":")
    if not colon and "." in module and _MODULE.fullmatch(module):
        package, _, last = module.rpartition(".")
        yield (*path, "target"), f"'{module}' has no ':' before its last part; write {package}:{last}"
    elif not _MODULE.fullmatch(module) or (colon and not _MODULE.fullmatch(name)):
        yield (*path, "target"), f"{target.target!a} is no name of a target; write a short name or package.module:Name"


def splits(config: Config) -> list[str]:
    """The data sets that a config has, the one that tells most about a finished run first."""
    data = config.data
    there = {"test": data.test is not None, "valid": data.valid is not None or data.valid_fraction is not None, "train": True}
    return [name for name, is_there in there.items() if is_there]
