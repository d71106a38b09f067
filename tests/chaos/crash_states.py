"""Power cuts: in the states that a crash may leave of a run that saves, nothing acknowledged is lost; three naive ways to save lose it."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import torch

from tests.chaos import saves
from tests.chaos.result import Result
from tests.chaos.saves import Save
from tests.support.file_faults import Disk, Operation
from tests.support.power_cut import File, Folder, replay
from trainer.rundir import RunDir, append_jsonl, fsync_folder, read_jsonl

LATEST = "latest.pt"


def crash_states(seed: int, count: int = 300) -> Result:
    """`count` states after a power cut in a run of six saves, and the controls, which must lose something."""
    with saves.scratch() as scratch:
        operations = _record(scratch / "run", _six_saves)
        failures = _lost(scratch / "crash", operations, _run_lost, seed, count)
        controls = {
            "without fsync": _lost(
                scratch / "crash", [o for o in operations if o.kind != "fsync" or o.path == "."], _run_lost, seed, count
            ),
            "in place": _lost(scratch / "crash", _record(scratch / "one", _in_place), _file_lost, seed, count),
            "renamed before fsync": _lost(scratch / "crash", _record(scratch / "two", _renamed_first), _file_lost, seed, count),
        }
        right = _lost(scratch / "crash", _record(scratch / "three", _done_right), _file_lost, seed, count)
    bad = len(failures)
    idle = [name for name, lost in controls.items() if not lost]
    failures += [f"seed {seed}: the control '{name}' loses nothing, so the states prove nothing" for name in idle]
    failures += [f"seed {seed}: one file, done right, is lost too, so the states are not POSIX's: {line}" for line in right[:1]]
    notes = "controls lost, as they must: " + ", ".join(f"{name} {len(lost)} of {count}" for name, lost in controls.items())
    wanted = count + len(controls) + 1
    return Result("crash states", wanted, wanted - bad - len(idle) - bool(right), failures, notes)


def _record(folder: Path, work: Callable[[Path], None]) -> list[Operation]:
    """What work does in an empty folder."""
    folder.mkdir()
    with Disk(folder).installed() as disk:
        work(folder)
    shutil.rmtree(folder)
    return disk.operations


def _lost(folder: Path, operations: list[Operation], judge: Callable[[Path, Folder], str | None], seed: int, count: int) -> list[str]:
    """Cut the power at seeded instants after the folder itself is safe; a line for each state in which something is lost."""
    lost, first = [], operations.index(Operation("fsync", ".")) + 1
    for number in range(count):
        chosen = random.Random(f"{seed} {number}")
        at = chosen.randint(first, len(operations))
        shutil.rmtree(folder, ignore_errors=True)
        before = replay(operations[:at])
        before.after_a_crash(folder, chosen)
        if what := judge(folder, before):
            lost.append(f"seed {seed}, state {number}, power cut after operation {at} ({operations[at - 1]}): {what}")
    return lost


def _said(before: Folder) -> list[str]:
    """What had been acknowledged when the power went, whatever is left of the file that says so."""
    events = before.now.get("events.jsonl")
    if not isinstance(events, File):
        return []
    return [line.split(b'"checkpoint": "')[1].split(b'"')[0].decode() for line in events.now.splitlines() if b'"checkpoint": "' in line]


def _six_saves(folder: Path) -> None:
    run = saves.new_run(folder)
    fsync_folder(folder)  # the run itself was there long before
    for step in range(1, 7):
        Save(step, 300 * step, best=1.0 / step if step in (1, 4) else None).to(run)


def _run_lost(folder: Path, before: Folder) -> str | None:
    """What the crash has cost the run."""
    run, room = RunDir(folder), before.now.get("checkpoints")
    assert isinstance(room, Folder)
    acked = _said(before)
    kept = [name for name in acked if name in room.now]
    list(read_jsonl(run.events)), list(read_jsonl(run.metrics))  # torn or zeroed: they must be readable
    return saves.loss(run, acked, kept) or saves.goes_on(run)


def _save_file(folder: Path, step: int, in_place: bool, fsync_first: bool) -> None:
    """A save into one file, right or wrong, and its acknowledgement."""
    path = folder / (LATEST if in_place else "next.pt")
    with open(path, "wb") as file:
        torch.save(saves.state(step, 500), file)
        if in_place or fsync_first:
            file.flush()
            os.fsync(file.fileno())
    if not in_place:
        path.replace(folder / LATEST)
    if not (in_place or fsync_first):
        with open(folder / LATEST, "r+b") as file:
            os.fsync(file.fileno())
    fsync_folder(folder)
    append_jsonl(folder / "events.jsonl", {"checkpoint": f"step-{step:08d}"})


def _in_place(folder: Path) -> None:
    for step in range(1, 4):
        _save_file(folder, step, in_place=True, fsync_first=True)


def _renamed_first(folder: Path) -> None:
    for step in range(1, 4):
        _save_file(folder, step, in_place=False, fsync_first=False)


def _done_right(folder: Path) -> None:
    for step in range(1, 4):
        _save_file(folder, step, in_place=False, fsync_first=True)


def _file_lost(folder: Path, before: Folder) -> str | None:
    """What the crash has cost the one file."""
    acked = _said(before)
    if not acked:
        return None
    try:
        step = torch.load(folder / LATEST, weights_only=True)["step"]
    except Exception as fault:
        return f"{acked[-1]} was acknowledged, and nothing can be loaded ({type(fault).__name__})"
    return None if step >= saves.order(acked[-1])[0] else f"{acked[-1]} was acknowledged, and step {step} is there"
