"""Checkpoints on disk: written whole or not at all, verified before they are read, never overwritten.

A checkpoint is written as ``.partial-…``: the state, fsync, the manifest (sizes and SHA-256) last, fsync, then one rename, and an fsync of
the parent. A kill at any instant leaves the earlier checkpoints as they were. ``state.pt`` holds tensors and plain types only, and is
always read with ``weights_only=True``, after its digest was checked. What can be said without torch is in `trainer.checkpoint.manifest`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import Counter, OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import torch

from trainer.checkpoint.manifest import (
    BLOCK,
    MANIFEST,
    STATE,
    clear_partial,
    digest,
    free_name,
    names,
    newest_good,
    point,
    pointed,
    prune,
    read,
    seal,
    set_aside,
    step_of,
    verify,
)
from trainer.errors import CheckpointError
from trainer.files import private
from trainer.fingerprint import named_tensors
from trainer.rundir import fsync_folder, write_json

__all__ = [
    "BLOCK",
    "MANIFEST",
    "STATE",
    "check_plain",
    "digest",
    "load",
    "names",
    "newest_good",
    "point",
    "pointed",
    "prune",
    "read",
    "seal",
    "set_aside",
    "step_of",
    "verify",
    "write",
]

FSYNC_EVERY = 1 << 26
_TENSORS = (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer)
_PLAIN = (type(None), bool, int, float, str)
_DICTS = (dict, OrderedDict, Counter)  # torch's MultiStepLR counts its milestones


def write(folder: Path, state: dict[str, Any], facts: dict[str, Any], beat: Callable[[], None] | None = None) -> str:
    """Write one checkpoint and return its name.

    Args:
        folder: the run's ``checkpoints``.
        state: tensors and plain types; ``state["step"]`` names it.
        facts: what else stands in the manifest (config hash, weights' SHA-256, …).
        beat: called for each block that is written.

    Raises:
        CheckpointError: the state holds something else, which could not be read back; nothing was written.
        OSError: the disk is full or broken; nothing is left, or a ``.partial-`` folder that the next write removes.
    """
    check_plain(state)
    clear_partial(folder)
    name = free_name(folder, state["step"])
    partial = folder / f".partial-{name}"
    try:
        partial.mkdir(mode=0o700)
        entry = _write_state(partial / STATE, state, beat)
        tensors = {path: f"{str(t.dtype).removeprefix('torch.')} {list(t.shape)}" for path, t in named_tensors(state)}
        manifest = {"format": 1, "step": state["step"], **facts, "files": {STATE: entry}, "tensors": tensors}
        write_json(partial / MANIFEST, {**manifest, "seal": seal(manifest)})
        # The manifest came last, and brought the folder to the disk with it.
        partial.rename(folder / name)
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)  # it may be what fills the disk
        raise
    fsync_folder(folder)
    return name


def _write_state(path: Path, state: dict[str, Any], beat: Callable[[], None] | None) -> dict[str, Any]:
    """Write and fsync the state; its size and SHA-256, taken from what was written and not from what the disk gives back."""
    with open(path, "xb", opener=private) as file:
        hashing = _Hashing(file, beat)
        torch.save(state, cast(IO[bytes], hashing))
        hashing.finish()
    return {"bytes": hashing.size, "sha256": hashing.sha.hexdigest()}


class _Hashing:
    """What ``torch.save`` writes to: a file that hashes on the way, and brings what it has to the disk now and then.

    It never raises while torch writes, for the writer underneath is C++ that would go on to its trailer: `finish` does.
    A hash and a write of some MB leave the interpreter to the other threads.
    """

    def __init__(self, file: BinaryIO, beat: Callable[[], None] | None) -> None:
        self.file, self.beat, self.sha, self.size = file, beat, hashlib.sha256(), 0
        self.fault: OSError | None = None
        self._unsynced = 0

    def write(self, data: bytes | memoryview) -> int:
        """Write and hash; after a fault, nothing more."""
        view = memoryview(data).cast("B")
        try:
            for start in range(0, len(view), BLOCK):
                if self.fault is not None:
                    break
                self._block(view[start : start + BLOCK])
        except OSError as fault:
            self.fault = fault
        return len(view)

    def _block(self, block: memoryview) -> None:
        self.file.write(block)
        self.sha.update(block)
        self.size += len(block)
        self._unsynced += len(block)
        if self._unsynced >= FSYNC_EVERY:  # else one long fsync at the end, in which nobody sees progress
            self._sync()
        if self.beat is not None:
            self.beat()

    def _sync(self) -> None:
        self.file.flush()
        os.fsync(self.file.fileno())
        self._unsynced = 0

    def flush(self) -> None:
        """Torch calls it at the end; `finish` does the work."""

    def finish(self) -> None:
        """Bring the rest to the disk.

        Raises:
            OSError: something could not be written, now or earlier.
        """
        if self.fault is not None:
            raise self.fault
        self._sync()


def check_plain(value: Any, path: str = "") -> None:
    """Refuse what `load` would refuse. Types are compared exactly: a subclass (numpy.float64 is a float) is pickled as itself.

    Raises:
        CheckpointError: names what a checkpoint cannot hold, and where it is.
    """
    kind = type(value)
    if kind in _DICTS:
        for key, item in value.items():
            if type(key) not in _PLAIN:
                raise CheckpointError(f"training state: {path or 'the top'} has a key of type {_type(key)}; use str or int")
            check_plain(item, f"{path}.{key}" if path else str(key))
        for name, item in getattr(value, "__dict__", {}).items():  # an OrderedDict's attributes are pickled too: a model's _metadata
            check_plain(item, f"{path}.{name}" if path else name)
    elif kind in (list, tuple):
        for i, item in enumerate(value):
            check_plain(item, f"{path}.{i}")
    elif kind not in _TENSORS and kind not in _PLAIN:
        raise CheckpointError(
            f"training state: {path} is a {_type(value)}, which a checkpoint cannot hold; "
            "use tensors and None, bool, int, float, str, list, tuple or dict"
        )


def _type(value: Any) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def load(checkpoint: Path, beat: Callable[[], None] | None = None) -> dict[str, Any]:
    """A verified checkpoint's state, on the CPU; only tensors and plain types are ever unpickled.

    Raises:
        CheckpointError: it does not verify, or holds something else.
    """
    verify(checkpoint, beat)
    try:
        state = torch.load(checkpoint / STATE, map_location="cpu", weights_only=True)
    except Exception as fault:  # not torch's text: it advises to unpickle without care
        raise CheckpointError(
            f"{checkpoint / STATE}: holds more than tensors and plain types ({type(fault).__name__}), so it was not written here; "
            "it is never unpickled, and the checkpoint cannot be used"
        ) from fault
    if not isinstance(state, dict):
        raise CheckpointError(f"{checkpoint / STATE}: holds a {type(state).__name__}, not a training state")
    return state
