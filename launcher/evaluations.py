"""What runs have reached on their validation sets, by what their config watches (free of torch, unless a task must be asked)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from launcher.halving import Seen
from launcher.standing import Standing, number, whole
from trainer.checkpoint import manifest
from trainer.config.schema import Config
from trainer.errors import LOST, ConfigError
from trainer.rundir import RunDir, read_jsonl

KNOWN = {"accuracy": True, "loss": False}
# Those that our own tasks measure besides.
OURS = {"top5_accuracy": True, "f1": True, "f1_micro": True, "exact_match": True, "r2": True, "mae": False, "rmse": False, **KNOWN}


def evaluations(run: RunDir) -> list[dict[str, Any]]:
    """A run's evaluations on its validation set, in their order."""
    return [row for row in read_jsonl(run.metrics) if row.get("split") == "valid"]


def watched(config: Config, rows: Sequence[Mapping[str, Any]]) -> tuple[str, bool]:
    """What says which weights are the best, and whether more of it is better.

    Args:
        config: of the runs.
        rows: what they have been evaluated to.
    """
    name, mode = config.train.monitor, config.train.monitor_mode
    if name == "auto":
        name = "accuracy" if any("accuracy" in row for row in rows) else "loss"
    if mode != "auto":
        return name, mode == "max"
    if config.task.target == "auto" and name in KNOWN:
        return name, KNOWN[name]
    from trainer.tasks.choose import less_is_better

    try:
        less = less_is_better(config, name)
    except ConfigError:  # a module that is not at hand here
        less = None
    return name, not less


def more_is_better(settings: Mapping[str, Any], name: str) -> bool | None:
    """Whether more of a figure is better, from a run's settings alone; None: that is not known. Pure.

    Args:
        settings: the resolved config as plain values.
        name: of the figure.
    """
    train, task = (settings.get(section) for section in ("train", "task"))
    if isinstance(train, Mapping) and train.get("monitor") == name and train.get("monitor_mode") in ("min", "max"):
        return bool(train["monitor_mode"] == "max")
    own = isinstance(task, Mapping) and ":" in str(task.get("target"))  # which may call anything accuracy
    return None if own and name != "loss" else OURS.get(name)


def finite(row: Mapping[str, Any] | None, name: str) -> float | None:
    """A row's figure, if it is a finite number."""
    value = number((row or {}).get(name))
    return value if value is not None and math.isfinite(value) else None


def best_of(rows: Sequence[Mapping[str, Any]], name: str, more: bool) -> Mapping[str, Any] | None:
    """The best of a run's evaluations, the first one of two that are alike. Pure."""
    with_it = [row for row in rows if finite(row, name) is not None]
    return (max if more else min)(with_it, key=lambda row: float(row[name])) if with_it else None


def seen(standing: Standing, rows: Sequence[Mapping[str, Any]], name: str, saved: int) -> Seen:
    """What a run's folder says of how far it is.

    Args:
        standing: how it stands.
        rows: its evaluations.
        name: the metric that is watched.
        saved: epochs whose end the newest checkpoint had behind it, before the evaluations were read.
    """
    values = {epoch: finite(row, name) for row in rows if (epoch := whole(row.get("epoch"))) is not None}
    failed = standing.state == "failed"
    code = whole(standing.facts.last.get("exit_code")) if failed else None
    return Seen(
        values, saved, standing.state == "finished", (LOST if code is None else code) if failed else None, _failures(standing.facts.run)
    )


def saved_epochs(run: RunDir) -> int:
    """Epochs whose end the newest checkpoint has behind it."""
    names = manifest.names(run.checkpoints)
    step = manifest.step_of(names[-1]) if names else 0
    ends = [row for row in read_jsonl(run.metrics) if row.get("split") == "epoch"]
    return max((int(row["epoch"]) for row in ends if whole(row.get("step")) is not None and row["step"] <= step), default=0)


def _failures(run: RunDir) -> int:
    """Failures since the newest checkpoint."""
    count = 0
    for row in read_jsonl(run.events):
        count = count + 1 if row.get("event") == "failed" else 0 if row.get("event") == "checkpointed" else count
    return count
