"""Stage two: import each target, and hold its arguments against its signature, before anything is created or queued.

This runs the targets' modules, and imports torch. Nothing is built here, except what is nothing but numbers (a schedule, an image
transform): its own complaints about its arguments are told too.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from trainer.config.annotations import accepts, describe, hint
from trainer.config.explain import did_you_mean
from trainer.config.load import Loaded
from trainer.config.schema import Config, Target
from trainer.config.strict_yaml import KeyPath, one_line, show
from trainer.errors import ConfigError
from trainer.registry import resolve, targets

Problem = tuple[KeyPath, str]

_SCHEDULE_TAKES = ("step", "total_steps", "steps_per_epoch")
_MADE_HERE = (
    "torchvision.transforms",
    "trainer.data.transforms",
    "trainer.data.sets",
    "trainer.data.batch_transforms",
    "trainer.optim.schedules",
)


def check_targets(loaded: Loaded) -> None:
    """Import every target of a config and check its arguments.

    Raises:
        ConfigError: with every problem, one line each.
    """
    found: list[Problem] = []
    for path, kind, target in reversed([*targets(loaded.config)]):  # a target among another's arguments before that one
        try:
            called = resolve(kind, target.target)
        except ConfigError as error:
            found.append(((*path, "target"), one_line(str(error), 400)))
            continue
        wrong = [*_wrong_kind(path, kind, called)]
        wrong = wrong or [*_arguments(path, kind, target, called)]
        wrong_inside = any(inner[: len(path)] == path for inner, _ in found)
        found += wrong if wrong or wrong_inside else _trial(path, kind, target, called, loaded.config.train.epochs)
    found += [] if found else _watched(loaded.config)
    if found:
        raise loaded.error(*reversed(found))


def _watched(config: Config) -> list[Problem]:
    """A metric of a task that the config names, if nobody says whether less or more of it is better."""
    train, task = config.train, config.task.target
    if task == "auto" or train.monitor == "auto" or train.monitor_mode != "auto":
        return []
    from trainer.tasks.base import Task, less_is_better_of, no_direction

    called = resolve("task", task)
    if not inspect.isclass(called) or not issubclass(called, Task) or less_is_better_of(called, train.monitor) is not None:
        return []
    return [(("train", "monitor"), no_direction(called, train.monitor))]


def _wrong_kind(path: KeyPath, kind: str, called: Callable[..., Any]) -> Iterator[Problem]:
    """A class that cannot be what its place needs; a function is judged when it is called."""
    import torch  # after the targets' own imports, so that a broken target costs no second

    path = (*path, "target")
    name = getattr(called, "__name__", str(called))
    from trainer.tasks.base import Task

    needs: Any = {"model": torch.nn.Module, "loss": torch.nn.Module, "optimizer": torch.optim.Optimizer, "task": Task}.get(kind)
    if inspect.isclass(called) and needs is not None and (not issubclass(called, needs) or called is needs is not Task):
        yield path, f"{name} is no {kind}; it must be a kind of {needs.__module__.removesuffix('.modules.module')}.{needs.__name__}"
    if kind == "optimizer" and inspect.isclass(called) and _needs_closure(called):
        yield (
            path,
            f"the step() of {name} needs a closure, which the trainer does not pass; use another optimizer",
        )
    if kind != "schedule":
        return
    if called is torch.optim.lr_scheduler.ReduceLROnPlateau:
        yield path, "ReduceLROnPlateau needs a metric at each step; write plateau, which takes the validation metric"
    elif inspect.isclass(called) and not _is_torch_schedule(called) and not _is_plateau(called):
        yield path, f"{name} is no schedule; it must be a function of (step, total_steps, steps_per_epoch) or a torch scheduler"


def _needs_closure(called: type) -> bool:
    signature = _signature(getattr(called, "step", None))
    closure = signature.parameters.get("closure") if signature else None
    return closure is not None and closure.default is inspect.Parameter.empty


def _is_torch_schedule(called: Callable[..., Any]) -> bool:
    import torch

    return inspect.isclass(called) and issubclass(called, torch.optim.lr_scheduler.LRScheduler)


def _is_plateau(called: Callable[..., Any]) -> bool:
    return (called.__module__, getattr(called, "__name__", "")) == ("trainer.optim.schedules", "Plateau")


def _arguments(path: KeyPath, kind: str, target: Target, called: Callable[..., Any]) -> Iterator[Problem]:
    """Unknown, missing and ill-typed arguments."""
    signature = _signature(called)
    if signature is None:
        return
    parameters = list(signature.parameters.values())
    named = {p.name: p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    passed = _passed_by_us(kind, called, parameters)
    free = [name for name in named if name not in passed]
    for name, value in target.arguments.items():
        if name in passed:
            yield (*path, name), f"the trainer passes '{name}' itself; leave it out"
        elif name in named:
            if not _can_be(kind, named[name], value):
                wanted = named[name].annotation
                yield (*path, name), f"must be {describe(wanted)}, not {show(value)}{hint(wanted, value)}"
        elif not takes_any:
            instead = did_you_mean(name, free) or (f"; it takes {', '.join(free)}" if free else "; it takes none")
            yield (*path, name), f"{target.target} has no argument '{one_line(name, 40)}'{instead}"
    for name in free:
        if named[name].default is inspect.Parameter.empty and name not in target.arguments:
            yield path, f"{target.target} needs the argument '{name}'"
    missing = [name for name in passed if name not in named and not takes_any] if kind == "schedule" else []
    if missing:
        yield (*path, "target"), f"{target.target} is no schedule: it does not take '{missing[0]}'"


def _can_be(kind: str, parameter: inspect.Parameter, value: Any) -> bool:
    if kind == "loss" and is_numbers(value):
        return True  # class weights: made a tensor
    return accepts(parameter, _as_made(value) if kind == "transform" else value)


def _as_made(value: Any) -> Any:
    """A transform's argument, a callable (any) wherever another transform stands in it."""
    if isinstance(value, list):
        return [_as_made(entry) for entry in value]
    return _as_made if isinstance(value, dict) and isinstance(value.get("target"), str) else value


def _passed_by_us(kind: str, called: Callable[..., Any], parameters: list[inspect.Parameter]) -> list[str]:
    """The names of the arguments that the trainer passes, such as an optimizer's parameters."""
    first = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)][:1]
    if kind in ("optimizer", "task", "initialiser") or _is_torch_schedule(called):
        return first
    if kind == "schedule" and not inspect.isclass(called):
        return [*first, *_SCHEDULE_TAKES[1:]]
    return []


def is_numbers(value: Any) -> bool:
    """Whether a value is a list of numbers."""
    return isinstance(value, list) and bool(value) and all(type(number) in (int, float) for number in value)


def _signature(called: Callable[..., Any] | None) -> inspect.Signature | None:
    """The signature, its annotations evaluated where they can be; None for what has none."""
    if called is None:
        return None
    for evaluate in (True, False):
        try:
            return inspect.signature(called, eval_str=evaluate)
        except (TypeError, ValueError):
            return None
        except Exception:  # an annotation that is a name for the type checker alone
            continue
    return None


def _trial(path: KeyPath, kind: str, target: Target, called: Callable[..., Any], epochs: int) -> list[Problem]:
    """What a schedule or an image transform itself says about its arguments."""
    if kind not in ("schedule", "transform", "batch_transform") or not called.__module__.startswith(_MADE_HERE):
        return []
    numbers = (0, epochs * 1000, 1000) if kind == "schedule" and not inspect.isclass(called) else ()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if kind == "transform":
                from trainer.data.transforms import make_transform

                make_transform(called, target.arguments)
            else:
                called(*numbers, **target.arguments)
    except Exception as error:
        return [(path, f"{target.target} refuses its arguments: {one_line(str(error).removeprefix('schedule: '), 200)}")]
    return []
