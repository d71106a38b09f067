"""What checkpoints there are, and whether they are good: names, pointers, digests. Free of torch, so that the launcher can ask.

A checkpoint is a folder ``step-00001234/`` with ``state.pt`` and ``manifest.json``, which has the sizes and SHA-256 of the files, the
settings that the arithmetic depends on, and the list of tensors. A folder ``.partial-…`` is one that is being written or removed,
``bad-…`` one that was refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from trainer.checkpoint.retention import keep
from trainer.errors import CheckpointError
from trainer.rundir import fsync_folder, read_json, write_json

_NAME = re.compile(r"step-(\d{8,})(?:\.(\d+))?")
STATE = "state.pt"
MANIFEST = "manifest.json"
BLOCK = 1 << 22


def names(folder: Path) -> list[str]:
    """The committed checkpoints' names, oldest first. A step may have several: before and after its epoch's evaluation."""
    if not folder.is_dir():
        return []
    return sorted((p.name for p in folder.iterdir() if _NAME.fullmatch(p.name)), key=_order)


def refused(folder: Path) -> list[str]:
    """The names of those that were set aside."""
    return sorted(p.name for p in folder.glob("bad-step-*") if p.is_dir())


def step_of(name: str) -> int:
    """The step in a checkpoint's name."""
    return _order(name)[0]


def _order(name: str) -> tuple[int, int]:
    match = _NAME.fullmatch(name)
    assert match, name
    return int(match[1]), int(match[2] or 0)


def free_name(folder: Path, step: int) -> str:
    """The name of the next checkpoint of a step: nothing is ever overwritten."""
    name, again = f"step-{step:08d}", 0
    while os.path.lexists(folder / name):
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
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return name if _NAME.fullmatch(name) and (folder / name).is_dir() else None


def prune(folder: Path, *, last: int, every: int | None, protected: Collection[str]) -> None:
    """Remove the checkpoints that the policy does not keep.

    It looks at names only. Protect the one just written: a damaged one with a higher step would count as newer.

    Raises:
        OSError: one of them could not be removed; the others are.
    """
    all_names = names(folder)
    stay = keep(all_names, [step_of(name) for name in all_names], last=last, every=every, protected=protected)
    first_fault: OSError | None = None
    for name in all_names:
        if name in stay:
            continue
        doomed = folder / f".partial-old-{name}"  # renamed first: half a removal must not look like a checkpoint
        try:
            (folder / name).rename(doomed)
            shutil.rmtree(doomed)
        except OSError as fault:
            first_fault = first_fault or fault
    if first_fault is not None:
        raise first_fault


def clear_partial(folder: Path) -> None:
    """Remove what writes and removals that broke off have left, as far as it can be removed."""
    for stale in folder.glob(".partial-*"):
        shutil.rmtree(stale, ignore_errors=True)


def set_aside(folder: Path, name: str) -> None:
    """Rename a refused checkpoint to ``bad-<name>`` (``bad-<name>.1``, … where that is taken): kept to look at, no longer counted."""
    target, again = folder / f"bad-{name}", 0
    while target.exists():
        again += 1
        target = folder / f"bad-{name}.{again}"
    (folder / name).rename(target)
    fsync_folder(folder)


def digest(path: Path, beat: Callable[[], None] | None = None) -> str:
    """SHA-256 of a file; `beat` is called for each block of it."""
    with open(path, "rb") as file:
        sha = hashlib.sha256()
        while block := file.read(BLOCK):
            sha.update(block)
            if beat is not None:
                beat()
        return sha.hexdigest()


def read(checkpoint: Path) -> dict[str, Any]:
    """A checkpoint's manifest, unverified.

    Raises:
        CheckpointError: there is none, or it does not say what it must.
    """
    try:
        manifest = dict(read_json(checkpoint / MANIFEST))
        files = {str(name): {"bytes": int(entry["bytes"]), "sha256": str(entry["sha256"])} for name, entry in manifest["files"].items()}
        if STATE not in files:
            raise KeyError(STATE)
        int(manifest["step"])
        sealed = manifest.get("seal") == seal(manifest)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as fault:
        raise CheckpointError(f"{checkpoint / MANIFEST}: unreadable ({type(fault).__name__}); the checkpoint cannot be trusted") from fault
    if not sealed:
        how = "altered since it was written" if "seal" in manifest else "without a seal, so an older version wrote it"
        raise CheckpointError(f"{checkpoint / MANIFEST}: {how}; the checkpoint cannot be trusted")
    return {**manifest, "files": files}


def seal(manifest: dict[str, Any]) -> str:
    """SHA-256 of what a manifest says besides its seal: a flipped bit in it is found, too."""
    rest = {name: value for name, value in json.loads(json.dumps(manifest)).items() if name != "seal"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def verify(checkpoint: Path, beat: Callable[[], None] | None = None) -> dict[str, Any]:
    """The manifest of a checkpoint whose files all have the recorded size and SHA-256.

    Raises:
        CheckpointError: a file is missing, torn, altered or unreadable; the text names it.
    """
    manifest = read(checkpoint)
    match = _NAME.fullmatch(checkpoint.name)
    if match and manifest["step"] != int(match[1]):
        raise CheckpointError(f"{checkpoint / MANIFEST}: is of step {manifest['step']}; the checkpoint was renamed and cannot be used")
    for name, entry in manifest["files"].items():
        path = checkpoint / name
        try:
            if Path(name).name != name or not path.is_file():
                raise CheckpointError(f"{path}: missing; the checkpoint cannot be used")
            size = path.stat().st_size
            if size != entry["bytes"]:
                raise CheckpointError(f"{path}: {size} bytes where the manifest says {entry['bytes']}; the checkpoint cannot be used")
            if digest(path, beat) != entry["sha256"]:
                raise CheckpointError(f"{path}: its content does not have the recorded SHA-256; the checkpoint cannot be used")
        except OSError as fault:
            raise CheckpointError(f"{path}: cannot be read ({fault.strerror}); the checkpoint cannot be used") from fault
    return manifest


def newest_good(folder: Path, beat: Callable[[], None] | None = None) -> tuple[str | None, list[str]]:
    """The newest checkpoint that verifies (None: there is none), and a line for each newer one that does not."""
    complaints: list[str] = []
    for name in reversed(names(folder)):
        try:
            verify(folder / name, beat)
        except CheckpointError as fault:
            complaints.append(str(fault))
        else:
            return name, complaints
    return None, complaints


def human(size: float) -> str:
    """A number of bytes for people: ``301 MB``."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.3g} {unit}" if unit != "bytes" else f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
