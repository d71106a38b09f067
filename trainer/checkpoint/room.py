"""Whether there is room for the checkpoints, and time to write one: said before training starts, not at the first save."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from trainer.checkpoint.manifest import digest, human, names
from trainer.config.schema import Config
from trainer.errors import StorageError
from trainer.files import bytes_below, private
from trainer.fingerprint import named_tensors
from trainer.state import TrainState, other_buffers

if TYPE_CHECKING:
    from trainer.build import Job

log = logging.getLogger("trainer")

PROBE_FROM = 64 * 10**6  # smaller checkpoints are written at once wherever they are
PROBE_BYTES = 16 << 20
_OVERHEAD = 16 << 10  # names, records and the manifest


def preflight(folder: Path, job: Job, grace_s: float) -> bool:
    """Compare what will be saved with what the disk has; whether a stop may need more than `grace_s`, which is said.

    A stop that comes while a checkpoint is being written waits for it, and then makes its own.

    Args:
        folder: the run's ``checkpoints``.
        job: what is trained, as it will begin.
        grace_s: the time that a request to stop leaves.

    Raises:
        StorageError: not even one more checkpoint fits, or nothing can be written there.
    """
    size = checkpoint_bytes(job.state)
    try:
        facts = os.statvfs(folder)
        free = facts.f_bavail * facts.f_frsize
        if free < size:
            raise StorageError(
                f"{folder}: a checkpoint needs {human(size)}, and {human(free)} are free; free some space, or set run.root to another disk"
            )
        seconds = size * _seconds_per_byte(folder) if size >= PROBE_FROM else 0.0
    except OSError as fault:
        raise StorageError(
            f"{folder}: cannot be written ({fault.strerror}); set run.root to a folder of yours on a disk with room"
        ) from fault
    count, room = kept(job.config, job.total_steps), free + sum(bytes_below(folder / name) for name in names(folder))
    if room < count * size:
        log.warning(
            f"{folder}: up to {count} checkpoints of {human(size)} will be there, {human(count * size)} in all, and there is room for "
            f"{human(room)}; lower checkpoint.keep_last, raise checkpoint.keep_every, or set run.root to another disk"
        )
    if 2 * seconds > grace_s:
        log.warning(
            f"a stop may need up to {2 * seconds:.2g} s here, to wait for a save and make another, and supervision.grace_s allows "
            f"{grace_s:g} s: the newest checkpoint may be lost; use a faster disk, or a longer grace period"
        )
    return 2 * seconds > grace_s


def checkpoint_bytes(state: TrainState) -> int:
    """About how large a checkpoint is."""
    parts: list[Any] = [state.model.state_dict(), other_buffers(state.model), state.ema.state_dict() if state.ema is not None else {}]
    weights = sum(_bytes(part) for part in parts)
    return weights + optimizer_bytes(state.optimizer) + _OVERHEAD


def optimizer_bytes(optimizer: torch.optim.Optimizer) -> int:
    """The size of the optimizer's state; where it has none yet, what it will be by its kind."""
    if optimizer.state:
        return _bytes(optimizer.state_dict()["state"])
    weights = sum(p.numel() * p.element_size() for group in optimizer.param_groups for p in group["params"])
    return int(weights * _copies(optimizer.defaults))


def _copies(options: dict[str, Any]) -> int:
    """How many numbers an optimizer keeps for each weight."""
    if "betas" in options:  # Adam and its relatives
        return 2 + bool(options.get("amsgrad"))
    if "momentum" in options:  # SGD; RMSprop, which has an alpha, keeps a square besides
        return bool(options["momentum"]) + ("alpha" in options) + bool(options.get("centered"))
    return 2


def _bytes(part: Any) -> int:
    seen = {(t.data_ptr(), t.shape): t.numel() * t.element_size() for _, t in named_tensors(part)}
    return sum(seen.values())


def kept(config: Config, total_steps: int) -> int:
    """The most checkpoints that are on the disk at once: the kept ones, the best, and the one that is being written."""
    policy = config.checkpoint
    milestones = total_steps // policy.keep_every if policy.keep_every else 0
    most = policy.keep_last + 1 + milestones
    if policy.every_s is None:  # then the number of saves is known, but for stops
        most = min(most, config.train.epochs + (total_steps // policy.every_steps if policy.every_steps else 0))
    return most + 1


def _seconds_per_byte(folder: Path) -> float:
    """The time of a small write that reaches the disk and is read back, as a save's does, by its size."""
    trial = folder / ".partial-trial"  # what a kill leaves of it, the next write removes
    shutil.rmtree(trial, ignore_errors=True)
    trial.mkdir(mode=0o700)
    try:
        block = os.urandom(1 << 20)  # zeros might be stored as nothing
        began = time.monotonic()
        with open(trial / "data", "xb", opener=private) as file:
            for _ in range(PROBE_BYTES // len(block)):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
            with contextlib.suppress(OSError, AttributeError):  # not every system and disk lets go of what it remembers
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        digest(trial / "data")
        return (time.monotonic() - began) / PROBE_BYTES
    finally:
        shutil.rmtree(trial, ignore_errors=True)
