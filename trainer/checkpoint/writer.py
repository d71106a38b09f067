"""Writes checkpoints while training goes on: one thread, one checkpoint at a time, and a failure that the loop hears of.

The order is what makes it safe: the state and its manifest are on the disk before the name is, the name before ``last.json``, that before
the event that says so, and an older checkpoint is removed only when the new one has been read back and found good.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from trainer import fingerprint
from trainer.checkpoint import store
from trainer.config.schema import CheckpointSection
from trainer.errors import CheckpointError, NonFiniteError, StorageError
from trainer.rundir import RunDir, fsync_folder

log = logging.getLogger("trainer")

_PIECE = 1 << 15  # elements; one more and torch would call in other threads, and take them from training
_INSTEAD = {
    errno.ENOSPC: "free some space there, or set checkpoint.keep_last lower",
    errno.EDQUOT: "free some space there, or ask for a larger quota",
    errno.EROFS: "mount it for writing",
    errno.EACCES: "make the folder yours",
    errno.EPERM: "make the folder yours",
}


@dataclass(frozen=True)
class Order:
    """One checkpoint to write."""

    snapshot: dict[str, Any]
    """A copy that nobody else changes."""
    facts: dict[str, Any]
    """What stands in the manifest besides."""
    best: float | None = None
    """With a value: it is the best so far."""
    stall_s: float = 0.0
    """What the copy took: stands in the event."""
    not_finite: frozenset[str] = field(default_factory=frozenset)
    """Tensors of the model that were NaN or infinite when training began, a mask for example, and may stay so."""


class Writer:
    """Takes orders on rank 0.

    Args:
        run: the run folder.
        policy: which checkpoints stay.
        attempt: stands in the events.
        grace_s: the time from a request to stop until the processes are ended; a save that takes longer is said once.
    """

    def __init__(self, run: RunDir, policy: CheckpointSection, attempt: int, grace_s: float) -> None:
        self.run, self.policy, self.attempt, self.grace_s = run, policy, attempt, grace_s
        self.beat: Callable[[], None] | None = None
        """Called for each block written or read back: a long write is progress."""
        self.failure: Exception | None = None
        self.last_good: str | None = None
        """The newest checkpoint that is known to be good."""
        self.too_slow = False
        """Whether it was said that a save takes longer than `grace_s`."""
        self._thread: threading.Thread | None = None

    def start(self, order: Order) -> None:
        """Write it in the background; the one before it must be done (`wait`)."""
        assert self._thread is None
        self._thread = threading.Thread(target=self._work, args=(order,), name="checkpoint", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise what a write failed with; costs nothing."""
        if self.failure is not None:
            raise self.failure

    @property
    def busy(self) -> bool:
        """Whether something is being written."""
        return self._thread is not None and self._thread.is_alive()

    def wait(self) -> None:
        """Until nothing is left to write; raises what it failed with."""
        thread = self._thread
        while thread is not None and thread.is_alive():
            thread.join(0.1)  # a join without end would keep a second Ctrl-C waiting
        self._thread = None
        self.check()

    def _work(self, order: Order) -> None:
        began = time.monotonic()
        try:
            name = commit(self.run, order, self.policy, self.attempt, self.beat)
        except OSError as fault:
            self.failure = self._explained(fault)
        except StorageError as fault:
            self.failure = StorageError(f"{fault}; {self._fallback()}")
        except Exception as fault:
            self.failure = fault
        else:
            self.last_good = name
            self._compare_with_grace(time.monotonic() - began + order.stall_s)

    def _explained(self, fault: OSError) -> StorageError:
        instead = _INSTEAD.get(fault.errno or 0, "look at the disk, or set run.root to another one")
        path = fault.filename if isinstance(fault.filename, str) else self.run.checkpoints
        return StorageError(f"{path}: the checkpoint could not be written ({fault.strerror or fault}); {instead}; {self._fallback()}")

    def _fallback(self) -> str:
        return f"the last good checkpoint is {self.last_good}" if self.last_good else "there is no earlier checkpoint"

    def _compare_with_grace(self, seconds: float) -> None:
        if 2 * seconds > self.grace_s and not self.too_slow:
            self.too_slow = True
            log.warning(too_slow(seconds, self.grace_s, "took"))


def too_slow(seconds: float, grace_s: float, verb: str = "takes about") -> str:
    """What to say about a save that may not be done before the processes are ended."""
    return (
        f"a save {verb} {seconds:.2g} s here, and a stop may have to wait for one and make another, within supervision.grace_s "
        f"({grace_s:g} s): it may be lost; use a faster disk, or a longer grace period"
    )


def commit(run: RunDir, order: Order, policy: CheckpointSection, attempt: int, beat: Callable[[], None] | None = None) -> str:
    """A whole save: check, write, point, acknowledge, read back, remove what is no longer kept. The checkpoint's name.

    Raises:
        NonFiniteError: a weight is NaN or infinite; nothing was written.
        StorageError: what was written does not read back.
        OSError: the disk is full or broken.
    """
    began, folder, step = time.monotonic(), run.checkpoints, order.snapshot["step"]
    check_finite(order.snapshot["model"], step, order.not_finite)
    weights = fingerprint.sha256(order.snapshot["model"])
    keep_on_disk(run.metrics)  # the checkpoint counts its rows
    name = store.write(folder, order.snapshot, {"saved": round(time.time(), 3), **order.facts, "weights": weights}, beat)
    store.point(folder, "last", name)
    if order.best is not None:
        store.point(folder, "best", name, value=order.best)
    seconds, stall_s = round(time.monotonic() - began, 4), round(order.stall_s, 4)
    run.event("checkpointed", attempt=attempt, step=step, checkpoint=name, weights=weights, seconds=seconds, stall_s=stall_s)
    _read_back(folder / name, beat)
    protected = [p for p in (name, store.pointed(folder, "best")) if p]
    try:
        store.prune(folder, last=policy.keep_last, every=policy.keep_every, protected=protected)
    except OSError as fault:  # the new one is safe
        log.warning(f"{fault.filename or folder}: an old checkpoint could not be removed ({fault.strerror}); remove it by hand")
    return name


def keep_on_disk(path: Path) -> None:
    """Bring a file that was only appended to, and its name, to the disk."""
    if path.exists():
        with open(path, "rb") as file:
            os.fsync(file.fileno())
        fsync_folder(path.parent)


def _read_back(checkpoint: Path, beat: Callable[[], None] | None) -> None:
    """Verify a checkpoint that has just been written, from the disk where the system lets its memory of it go."""
    with contextlib.suppress(OSError, AttributeError):
        descriptor = os.open(checkpoint / store.STATE, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
    try:
        store.verify(checkpoint, beat)
    except CheckpointError as fault:
        raise StorageError(f"{fault}; it was written only now, so the disk loses data: use another one (run.root)") from fault


def check_finite(model: dict[str, Any], step: int, allowed: frozenset[str] = frozenset()) -> None:
    """Refuse weights and buffers that are NaN or infinite.

    Raises:
        NonFiniteError: names the tensor and the step.
    """
    bad = sorted(not_finite(model) - allowed)
    if bad:
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        raise NonFiniteError(
            f"step {step}: {bad[0]}{more} is not finite, so no checkpoint is made of it; "
            "go on from the one before with a lower optimizer.lr or train.clip.norm=1.0"
        )


def not_finite(model: dict[str, Any]) -> frozenset[str]:
    """The names of the floating tensors in which something is NaN or infinite."""
    return frozenset(name for name, tensor in fingerprint.named_tensors(model) if not _is_finite(tensor))


@torch.no_grad()
def _is_finite(tensor: torch.Tensor) -> bool:
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return True
    if tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    if tensor.element_size() == 1:
        tensor = tensor.float()
    if tensor.is_cuda:
        return bool(torch.isfinite(tensor).all())
    return all(bool(torch.isfinite(piece).all()) for piece in tensor.reshape(-1).split(_PIECE))
