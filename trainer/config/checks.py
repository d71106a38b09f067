"""What no single option can see: options that contradict each other. Pure, and free of torch; nothing is changed here."""

from __future__ import annotations

import re
from collections.abc import Iterator

from trainer.config.schema import Config, Target
from trainer.config.strict_yaml import KeyPath, show

Problem = tuple[KeyPath, str]

_NEEDS_METRIC = ("plateau", "reducelronplateau")
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def problems(config: Config) -> list[Problem]:
    """Every contradiction, as (path, message)."""
    found = [*_batch(config), *_loss(config), *_hardware(config), *_supervision(config)]
    found += [*_shares(config), *_validation(config)]
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
    """Every target of a config: where it stands, its kind in the registry, and itself."""
    yield ("model",), "model", config.model
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
    if swa is not None and swa.start_epoch >= config.train.epochs:
        last = config.train.epochs - 1
        yield ("train", "swa", "start_epoch"), f"there is no epoch {swa.start_epoch}: counted from 0, the last one is {last}"


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
