"""Checkpoints on disk: written whole or not at all, verified before they are read, never overwritten.

A checkpoint is a folder ``step-00001234/`` with ``state.pt`` and ``manifest.json``. It is written as ``.partial-…``: the state, fsync, the
manifest (sizes and SHA-256) last, fsync, then one rename, and an fsync of the parent. A kill at any instant leaves the earlier checkpoints
as they were. ``state.pt`` holds tensors and plain types only, and is always read with ``weights_only=True``, after its digest was checked.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections import Counter, OrderedDict
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch

from trainer.checkpoint.retention import keep
from trainer.errors import CheckpointError
from trainer.rundir import fsync_folder, read_json, write_json

_NAME = re.compile(r"step-(\d{8,})(?:\.(\d+))?")
STATE = "state.pt"
MANIFEST = "manifest.json"
_TENSORS = (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer)
_PLAIN = (type(None), bool, int, float, str)
_DICTS = (dict, OrderedDict, Counter)  # torch's MultiStepLR counts its milestones


def names(folder: Path) -> list[str]:
    """The committed checkpoints' names, oldest first. A step may have several: before and after its epoch's evaluation."""
    if not folder.is_dir():
        return []
    return sorted((p.name for p in folder.iterdir() if _NAME.fullmatch(p.name)), key=_order)


def step_of(name: str) -> int:
    """The step in a checkpoint's name."""
    return _order(name)[0]


def _order(name: str) -> tuple[int, int]:
    match = _NAME.fullmatch(name)
    assert match, name
    return int(match[1]), int(match[2] or 0)


def write(folder: Path, state: dict[str, Any], facts: dict[str, Any]) -> str:
    """Write one checkpoint and return its name.

    Args:
        folder: the run's ``checkpoints``.
        state: tensors and plain types; ``state["step"]`` names it.
        facts: what else stands in the manifest (config hash, weights' SHA-256, …).

    Raises:
        CheckpointError: the state holds something else, which could not be read back; nothing was written.
        OSError: the disk is full or broken; nothing is left but a ``.partial-`` folder that the next write removes.
    """
    _check_plain(state, "")
    for stale in folder.glob(".partial-*"):
        shutil.rmtree(stale, ignore_errors=True)
    name = _free_name(folder, state["step"])
    partial = folder / f".partial-{name}"
    partial.mkdir(mode=0o700)
    path = partial / STATE
    with open(path, "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    write_json(
        partial / MANIFEST,
        {"format": 1, "step": state["step"], **facts, "files": {STATE: {"bytes": path.stat().st_size, "sha256": digest(path)}}},
    )
    fsync_folder(partial)
    partial.rename(folder / name)
    fsync_folder(folder)
    return name


def _check_plain(value: Any, path: str) -> None:
    """Refuse what `load` would refuse. Types are compared exactly: a subclass (numpy.float64 is a float) is pickled as itself."""
    kind = type(value)
    if kind in _DICTS:
        for key, item in value.items():
            if type(key) not in _PLAIN:
                raise CheckpointError(f"training state: {path or 'the top'} has a key of type {_type(key)}; use str or int")
            _check_plain(item, f"{path}.{key}" if path else str(key))
        for name, item in getattr(value, "__dict__", {}).items():  # an OrderedDict's attributes are pickled too: a model's _metadata
            _check_plain(item, f"{path}.{name}" if path else name)
    elif kind in (list, tuple):
        for i, item in enumerate(value):
            _check_plain(item, f"{path}.{i}")
    elif kind not in _TENSORS and kind not in _PLAIN:
        raise CheckpointError(
            f"training state: {path} is a {_type(value)}, which a checkpoint cannot hold; "
            "use tensors and None, bool, int, float, str, list, tuple or dict"
        )


def _type(value: Any) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _free_name(folder: Path, step: int) -> str:
    name, again = f"step-{step:08d}", 0
    while (folder / name).exists():
        again += 1
        name = f"step-{step:08d}.{again}"
    return name


def point(folder: Path, pointer: str, name: str, **facts: Any) -> None:
    """Make ``best.json`` or ``last.json`` say which checkpoint it is."""
    write_json(folder / f"{pointer}.json", {"checkpoint": name, "step": step_of(name), **facts})


def pointed(folder: Path, pointer: str) -> str | None:
    """The name in ``best.json`` or ``last.json``, if there is one and the checkpoint is there."""
    try:
        name = str(read_json(folder / f"{pointer}.json")["checkpoint"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return name if _NAME.fullmatch(name) and (folder / name).is_dir() else None


def prune(folder: Path, *, last: int, every: int | None, protected: Collection[str]) -> None:
    """Remove the checkpoints that the policy does not keep.

    It looks at names only. Protect the one just written: a damaged one with a higher step would count as newer.
    """
    all_names = names(folder)
    stay = keep(all_names, [step_of(name) for name in all_names], last=last, every=every, protected=protected)
    for name in all_names:
        if name not in stay:
            doomed = folder / f".partial-old-{name}"  # renamed first: half a removal must not look like a checkpoint
            (folder / name).rename(doomed)
            shutil.rmtree(doomed, ignore_errors=True)


def set_aside(folder: Path, name: str) -> None:
    """Rename a refused checkpoint to ``bad-<name>`` (``bad-<name>.1``, … where that is taken): kept to look at, no longer counted."""
    target, again = folder / f"bad-{name}", 0
    while target.exists():
        again += 1
        target = folder / f"bad-{name}.{again}"
    (folder / name).rename(target)
    fsync_folder(folder)


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with open(path, "rb") as file:
        sha = hashlib.sha256()
        while block := file.read(1 << 20):
            sha.update(block)
        return sha.hexdigest()


def verify(checkpoint: Path) -> dict[str, Any]:
    """The manifest of a checkpoint whose files all have the recorded size and SHA-256.

    Raises:
        CheckpointError: a file is missing, torn or altered; the text names it.
    """
    try:
        manifest = read_json(checkpoint / MANIFEST)
        files = dict(manifest["files"])
        if STATE not in files:
            raise KeyError(STATE)
        expected = {name: (int(entry["bytes"]), str(entry["sha256"])) for name, entry in files.items()}
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise CheckpointError(f"{checkpoint / MANIFEST}: unreadable ({type(fault).__name__}); the checkpoint cannot be trusted") from fault
    for name, (size, sha) in expected.items():
        path = checkpoint / name
        if Path(name).name != name or not path.is_file():
            raise CheckpointError(f"{path}: missing; the checkpoint cannot be used")
        if path.stat().st_size != size:
            raise CheckpointError(f"{path}: {path.stat().st_size} bytes where the manifest says {size}; the checkpoint cannot be used")
        if digest(path) != sha:
            raise CheckpointError(f"{path}: its content does not have the recorded SHA-256; the checkpoint cannot be used")
    return dict(manifest)


def newest_good(folder: Path) -> tuple[str | None, list[str]]:
    """The newest checkpoint that verifies (None: there is none), and a line for each newer one that does not."""
    complaints: list[str] = []
    for name in reversed(names(folder)):
        try:
            verify(folder / name)
        except CheckpointError as fault:
            complaints.append(str(fault))
        else:
            return name, complaints
    return None, complaints


def load(checkpoint: Path) -> dict[str, Any]:
    """A verified checkpoint's state, on the CPU; only tensors and plain types are ever unpickled.

    Raises:
        CheckpointError: it does not verify, or holds something else.
    """
    verify(checkpoint)
    try:
        state = torch.load(checkpoint / STATE, map_location="cpu", weights_only=True)
    except Exception as fault:
        raise CheckpointError(f"{checkpoint / STATE}: cannot be read: {fault}") from fault
    if not isinstance(state, dict):
        raise CheckpointError(f"{checkpoint / STATE}: holds a {type(state).__name__}, not a training state")
    return state
