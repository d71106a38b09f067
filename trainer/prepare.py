"""From a config to a run folder: everything is checked before anything is created; what is there is never overwritten.

The run folder's lock is taken in between, and nothing is created, moved or decided without it: of many starts at once one wins, and
the others touch nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from trainer.config import checks
from trainer.config.load import Loaded, as_settled, differences, dump, load
from trainer.config.schema import Config
from trainer.config.targets import check_targets
from trainer.errors import ConfigError, RunFolderError
from trainer.masking import masked
from trainer.metrics import weights_biases
from trainer.models.weight_files import missing
from trainer.rundir import Fence, RunDir, RunLock, make_private, write_atomic

FENCE_S = 10.0
AT_FDCWD, RENAME_EXCHANGE = -100, 2


@dataclass(frozen=True)
class Prepared:
    """A run folder that is ready for workers."""

    run: RunDir
    status: Literal["created", "resumed", "finished"]
    message: str
    lock: RunLock
    """Held until the caller releases it, after the last worker has ended."""


def run_of(config: Config) -> RunDir:
    """The run folder that a config names."""
    assert config.run.name is not None
    return RunDir(Path(config.run.root) / config.run.name)


def prepare(
    config_path: str | Path,
    overrides: Sequence[str],
    *,
    world_size: int,
    cpus: int | None = None,
    fresh: bool = False,
    fence_s: float = FENCE_S,
    hold: bool = False,
    lock: RunLock | None = None,
) -> Prepared:
    """Check a config to the end, and create or reopen its run folder.

    Args:
        config_path: the YAML file.
        overrides: ``section.key=value``.
        world_size: the number of workers of the whole job.
        cpus: the processors that the whole job may use; None: those of this process.
        fresh: move an existing run aside and start over.
        fence_s: how long to wait for workers of an earlier start to end.
        hold: leave the folder's lock with the caller.
        lock: the folder's lock, where the caller has it already; it is released when the run is refused.

    Raises:
        ConfigError: anything in the config; nothing was created.
        RunFolderError: the folder is in use, belongs to a run with other settings, or cannot be written.
    """
    loaded = load(config_path, overrides)
    check_targets(loaded)
    if loaded.config.log.wandb is not None and (fault := weights_biases.missing()):
        raise loaded.error((("log", "wandb"), fault))
    run = run_of(loaded.config)
    run.check()
    if fresh or not run.exists():
        _check(fill(loaded.config, world_size, cpus), loaded, world_size)  # once more below: now, because the lock is a file already
        pretrained = loaded.config.start.pretrained
        if pretrained is not None and (fault := missing(pretrained)):
            raise loaded.error((("start", "pretrained"), fault))
    with _locked(run, lock) as lock:
        Fence.wait(run.fence, fence_s)
        run.clear_partials()
        prepared = _under_lock(run, lock, loaded, config_path, overrides, world_size, cpus, fresh)
    if not hold:
        lock.release()
    return prepared


@contextlib.contextmanager
def _locked(run: RunDir, held: RunLock | None) -> Iterator[RunLock]:
    """The run folder's lock, in a folder that is made for it; both go again where the run is refused."""
    with _writable(run):
        run.path.parent.mkdir(parents=True, exist_ok=True)
        make_private(run.path)
    if held is not None and not held.in_place:
        held.release()  # its folder was moved away meanwhile, and is nobody's business of ours any more
        held = None
    lock = held or RunLock(run.lock)
    try:
        yield lock
    except BaseException:
        if not run.exists() and lock.in_place:
            with contextlib.suppress(OSError):  # while the lock is held: nobody else can have put anything here
                run.fence.unlink(missing_ok=True)
                run.lock.unlink(missing_ok=True)
                run.path.rmdir()
        lock.release()
        raise


@contextlib.contextmanager
def _writable(run: RunDir) -> Iterator[None]:
    try:
        yield
    except OSError as fault:
        raise RunFolderError(f"{run.path}: cannot be written ({fault.strerror}); set run.root to a folder of yours") from fault


def _under_lock(
    run: RunDir,
    lock: RunLock,
    loaded: Loaded,
    config_path: str | Path,
    overrides: Sequence[str],
    world_size: int,
    cpus: int | None,
    fresh: bool,
) -> Prepared:
    if run.exists() and not fresh:
        found = _reopen(run, lock, loaded, world_size)
        if found is not None:
            return found
    config = fill(loaded.config, world_size, cpus)
    _check(config, loaded, world_size)
    text = dump(config).encode()
    with _writable(run):
        if fresh and run.exists():
            set_aside(run, lock, text)
        run.create()
        write_atomic(run.config, text)
        run.event("created", config=str(config_path), overrides=masked(overrides), folder=str(Path.cwd()))
    return Prepared(run, "created", f"run {run.name}: new, in {run.path}", lock)


def fill(config: Config, world_size: int, cpus: int | None = None) -> Config:
    """Settle what is ``auto`` until a run's first start: it fixes the arithmetic for good.

    Threads follow the virtual ranks and not the workers: another number of threads adds in another order.
    """
    changes: dict[str, Any] = {}
    ranks = config.train.virtual_ranks
    if ranks == "auto":
        ranks = world_size
        changes["train"] = config.train.model_copy(update={"virtual_ranks": world_size})
    if config.hardware.threads == "auto":
        threads = max(1, (cpus or len(os.sched_getaffinity(0))) // ranks)
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


def _reopen(run: RunDir, lock: RunLock, loaded: Loaded, world_size: int) -> Prepared | None:
    """The run that is there; None: it has other settings, and nothing was trained with them, so it is made anew in place."""
    try:
        old = load(run.config).config
    except ConfigError:
        if run.progress():
            raise
        return None
    # What was settled at the first start stays settled, unless the config now says something else.
    assert isinstance(old.train.virtual_ranks, int)
    assert isinstance(old.hardware.threads, int)
    new = as_settled(old, loaded.config)
    changed = differences(old, new)
    if changed and not run.progress():
        return None
    if changed:
        raise RunFolderError(
            f"{run.path}: the run was made with other settings ({'; '.join(changed)}); "
            "give this one a name of its own (run.name=…), or start over (--fresh)"
        )
    _check(new, loaded, world_size)
    if run.finished():
        return Prepared(run, "finished", f"run {run.name}: finished already; --fresh starts over", lock)
    text = dump(new).encode()
    with _writable(run):
        if run.config.read_bytes() != text:
            write_atomic(run.config, text)
    return Prepared(run, "resumed", f"run {run.name}: goes on in {run.path}", lock)


def set_aside(run: RunDir, lock: RunLock, config: bytes) -> None:
    """Move an existing run to the first free ``name.1``, ``name.2`` …: a result is never deleted.

    A folder with the new config takes its place in the same instant, with its lock held: no other start can come in between, and nobody
    who looks finds no run.
    """
    number = 1
    while True:
        target = RunDir(run.path.with_name(f"{run.name}.{number}"))
        try:
            target.path.mkdir(mode=0o700)
            break
        except FileExistsError:
            number += 1
    second = RunLock(target.lock)
    write_atomic(target.config, config)
    try:
        _exchange(run.path, target.path)
    except OSError:
        if second.in_place:  # nothing has moved: what was made for it must not look like a run
            for file in (target.config, target.lock):
                file.unlink()
            target.path.rmdir()
        second.release()
        raise
    lock.take_over(second)


def _exchange(one: Path, two: Path) -> None:
    """Let two folders change names; in one instant where the file system can, else by three renames."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is not None and rename(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(two), RENAME_EXCHANGE) == 0:
        return
    if rename is not None and ctypes.get_errno() not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(one))
    between = one.with_name(f".{two.name}.new")
    two.rename(between)
    one.rename(two)
    between.rename(one)
