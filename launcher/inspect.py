"""What checkpoints a run has, and whether each is whole: it reads and hashes files, so it needs no torch."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trainer.checkpoint import manifest
from trainer.config.resolved import to_yaml
from trainer.errors import BAD_CHECKPOINT, DONE, CheckpointError, RunFolderError
from trainer.files import bytes_below
from trainer.rundir import RunDir

MARKED = ("best", "last")


@dataclass(frozen=True)
class Found:
    """One checkpoint."""

    name: str
    step: int | None
    epoch: int | None
    bytes: int
    saved: float | None
    """Seconds since 1970."""
    marks: list[str]
    """``best``, ``last``, or ``refused`` for one that was set aside."""
    fault: str | None
    """What is wrong with it."""


def inspect(run: str, *, checkpoint: str | None = None, as_json: bool = False) -> int:
    """Print a run's checkpoints, each of them read and verified, or one checkpoint's manifest.

    Args:
        run: the run folder.
        checkpoint: the name of one, ``best`` or ``last``.
        as_json: print JSON instead of a table.

    Returns:
        0; or 3 if a checkpoint does not verify. One that was set aside before does not count.

    Raises:
        RunFolderError: it is no run, or has no such checkpoint.
    """
    folder = RunDir(run)
    folder.must_exist()
    if checkpoint is not None:
        return _one(folder.checkpoints, checkpoint, as_json)
    found = examine(folder.checkpoints)
    if as_json:
        print(json.dumps([asdict(entry) for entry in found], indent=2))
    else:
        print("\n".join(table(found)) if found else f"{folder.checkpoints}: no checkpoint yet")
    return BAD_CHECKPOINT if any(entry.fault and "refused" not in entry.marks for entry in found) else DONE


def examine(checkpoints: Path) -> list[Found]:
    """All checkpoints, oldest first, then those that were set aside; one that the run removes in the meantime is left out."""
    marked = {name: manifest.pointed(checkpoints, name) for name in MARKED}
    found = [_look(checkpoints / name, [mark for mark in MARKED if marked[mark] == name]) for name in manifest.names(checkpoints)]
    found += [_look(checkpoints / name, ["refused"]) for name in manifest.refused(checkpoints)]
    return [one for one in found if one is not None]


def _look(checkpoint: Path, marks: list[str]) -> Found | None:
    """None: it is not there any more."""
    facts, fault = _facts(checkpoint)
    size = bytes_below(checkpoint)
    if not os.path.lexists(checkpoint):  # asked last: what was seen before that is a whole checkpoint's, or of no account
        return None
    step, epoch, saved = (facts.get(name) for name in ("step", "epoch", "saved"))
    return Found(checkpoint.name, step, epoch, size, saved, marks, fault)


def _facts(checkpoint: Path) -> tuple[dict[str, Any], str | None]:
    """What the manifest says (as far as it can be read), and what is wrong."""
    try:
        return manifest.verify(checkpoint), None
    except CheckpointError as fault:
        try:
            return manifest.read(checkpoint), str(fault)
        except CheckpointError:
            return {}, str(fault)


def table(found: list[Found]) -> list[str]:
    """The lines for people."""
    rows = [("checkpoint", "step", "epoch", "size", "saved at", "verified", "")]
    for entry in found:
        step, epoch = ("?" if value is None else str(value) for value in (entry.step, entry.epoch))
        saved = _clock(entry.saved) if isinstance(entry.saved, (int, float)) else "?"
        rows.append((entry.name, step, epoch, manifest.human(entry.bytes), saved, "no" if entry.fault else "yes", " ".join(entry.marks)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [_line(row, widths) for row in rows]
    return lines + [f"{entry.name}: {entry.fault}" for entry in found if entry.fault]


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    """Numbers to the right, words to the left."""
    cells = [row[0].ljust(widths[0])]
    cells += [cell.rjust(width) for cell, width in zip(row[1:4], widths[1:4], strict=True)]
    cells += [cell.ljust(width) for cell, width in zip(row[4:], widths[4:], strict=True)]
    return "  ".join(cells).rstrip()


def _one(checkpoints: Path, name: str, as_json: bool) -> int:
    """Print one checkpoint's manifest and its tensors."""
    wanted = manifest.pointed(checkpoints, name) if name in MARKED else name
    there = [*manifest.names(checkpoints), *manifest.refused(checkpoints)]
    if wanted not in there:
        raise RunFolderError(f"{checkpoints}: no checkpoint {name!r} here; there are {', '.join(there) or 'none'}")
    facts, fault = _facts(checkpoints / wanted)
    if not os.path.lexists(checkpoints / wanted):
        raise RunFolderError(f"{checkpoints}: the run has just removed {wanted}; ask again, for one that it keeps")
    marks = [mark for mark in MARKED if manifest.pointed(checkpoints, mark) == wanted]
    if as_json:
        print(json.dumps({"name": wanted, "marks": marks, "fault": fault, "manifest": facts}, indent=2))
    else:
        print("\n".join(_page(wanted, marks, fault, facts)))
    return BAD_CHECKPOINT if fault else DONE


def _page(name: str, marks: list[str], fault: str | None, facts: dict[str, Any]) -> list[str]:
    """One checkpoint for people: facts, settings, tensors."""
    lines = [f"{name} {' '.join(marks)}".rstrip(), f"verified: {'no: ' + fault if fault else 'yes'}"]
    shown = {key: value for key, value in facts.items() if key not in ("format", "files", "tensors")}
    if isinstance(shown.get("saved"), (int, float)):
        shown["saved"] = _clock(shown["saved"])
    lines += [to_yaml({key: value}).rstrip() for key, value in shown.items()]
    lines += [f"{file}: {entry['bytes']} bytes, sha256 {entry['sha256']}" for file, entry in facts.get("files", {}).items()]
    listed = facts.get("tensors")
    tensors = listed if isinstance(listed, dict) else {}
    width = max((len(tensor) for tensor in tensors), default=0)
    return lines + [f"{tensor.ljust(width)}  {kind}" for tensor, kind in tensors.items()]


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
