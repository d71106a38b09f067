"""From a config to a run folder: everything is checked before anything is created; what is there is never overwritten."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from trainer.config import checks
from trainer.config.load import Loaded, differences, dump, load
from trainer.config.schema import Config
from trainer.config.targets import check_targets
from trainer.errors import RunFolderError
from trainer.rundir import RunDir, write_atomic


@dataclass(frozen=True)
class Prepared:
    """A run folder that is ready for workers."""

    run: RunDir
    status: Literal["created", "resumed", "finished"]
    message: str


def run_of(config: Config) -> RunDir:
    """The run folder that a config names."""
    assert config.run.name is not None
    return RunDir(Path(config.run.root) / config.run.name)


def prepare(config_path: str | Path, overrides: Sequence[str], *, world_size: int, fresh: bool = False) -> Prepared:
    """Check a config to the end, and create or reopen its run folder.

    Args:
        config_path: the YAML file.
        overrides: ``section.key=value``.
        world_size: the number of workers of the whole job.
        fresh: move an existing run aside and start over.

    Raises:
        ConfigError: anything in the config; nothing was created.
        RunFolderError: the folder belongs to a run with other settings.
    """
    loaded = load(config_path, overrides)
    check_targets(loaded)
    run = run_of(loaded.config)
    if run.exists() and not fresh:
        return _reopen(run, loaded, world_size)
    config = fill(loaded.config, world_size)
    _check(config, loaded, world_size)
    try:
        if fresh:
            set_aside(run)
        run.create()
        write_atomic(run.config, dump(config).encode())
    except OSError as fault:
        raise RunFolderError(f"{run.path}: cannot be written ({fault.strerror}); set run.root to a folder of yours") from fault
    run.event("created", config=str(config_path), overrides=list(overrides))
    return Prepared(run, "created", f"run {run.name}: new, in {run.path}")


def fill(config: Config, world_size: int) -> Config:
    """Settle what is ``auto`` until a run's first start: it fixes the arithmetic for good.

    Threads follow the virtual ranks and not the workers: another number of threads adds in another order.
    """
    changes: dict[str, Any] = {}
    ranks = config.train.virtual_ranks
    if ranks == "auto":
        ranks = world_size
        changes["train"] = config.train.model_copy(update={"virtual_ranks": world_size})
    if config.hardware.threads == "auto":
        threads = max(1, len(os.sched_getaffinity(0)) // ranks)
        changes["hardware"] = config.hardware.model_copy(update={"threads": threads})
    return config.model_copy(update=changes)


def _check(config: Config, loaded: Loaded, world_size: int) -> None:
    faults = checks.problems(config)
    ranks = config.train.virtual_ranks
    assert isinstance(ranks, int)
    if ranks % world_size:
        fits = ", ".join(map(str, checks.divisors(ranks)))
        faults.append((("train", "virtual_ranks"), f"{world_size} workers cannot share {ranks} virtual ranks evenly; start {fits} of them"))
    if faults:
        raise loaded.error(*faults)


def _reopen(run: RunDir, loaded: Loaded, world_size: int) -> Prepared:
    old = load(run.config).config
    # What was settled at the first start stays settled, unless the config now says something else.
    assert isinstance(old.train.virtual_ranks, int)
    assert isinstance(old.hardware.threads, int)
    new = fill(loaded.config, old.train.virtual_ranks)
    if loaded.config.hardware.threads == "auto":
        new = new.model_copy(update={"hardware": new.hardware.model_copy(update={"threads": old.hardware.threads})})
    changed = differences(old, new)
    if changed:
        raise RunFolderError(
            f"{run.path}: the run was made with other settings ({'; '.join(changed)}); "
            "give this one a name of its own (run.name=…), or start over (--fresh)"
        )
    _check(new, loaded, world_size)
    if run.finished():
        return Prepared(run, "finished", f"run {run.name}: finished already; --fresh starts over")
    text = dump(new).encode()
    if run.config.read_bytes() != text:
        write_atomic(run.config, text)
    return Prepared(run, "resumed", f"run {run.name}: goes on in {run.path}")


def set_aside(run: RunDir) -> None:
    """Move an existing run folder to the first free ``name.1``, ``name.2`` …: a result is never deleted."""
    if not run.path.exists():
        return
    number = 1
    while (target := run.path.with_name(f"{run.name}.{number}")).exists():
        number += 1
    run.path.rename(target)
