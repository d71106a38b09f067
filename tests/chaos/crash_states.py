"""Power cuts: in the states that a crash may leave of a run that saves, nothing acknowledged is lost; three naive ways to save lose it."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from tests.chaos import saves
from tests.chaos.result import Result
from tests.chaos.saves import Save
from tests.support.file_faults import Disk, Operation
from tests.support.power_cut import File, Folder, replay
from trainer.rundir import RunDir, append_jsonl, fsync_folder, read_jsonl

LATEST = "latest.pt"
PATIENCE = 1000  # states; the least likely control loses in one of thirty


def crash_states(seed: int, count: int = 300) -> Result:
    """`count` states after a power cut in a run of six saves; and the controls, cut until they lose something, as they must."""
    with saves.scratch() as scratch:
        crash, operations = scratch / "crash", _record(scratch / "run", _six_saves)
        failures = [line for _, line in _lost(crash, operations, _run_lost, seed, count)]
        unsafe = [o for o in operations if o.kind != "fsync" or o.path == "."]
        controls = {
            "without fsync": _lost(crash, unsafe, _run_lost, seed, PATIENCE),
            "in place": _lost(crash, _record(scratch / "one", _in_place), _file_lost, seed, PATIENCE),
            "renamed before fsync": _lost(crash, _record(scratch / "two", _renamed_first), _file_lost, seed, PATIENCE),
        }
        first = {name: next(lost, None) for name, lost in controls.items()}
        right = next(_lost(crash, _record(scratch / "three", _done_right), _file_lost, seed, count), None)
    wanted, idle = count + len(controls) + 1, [name for name, lost in first.items() if lost is None]
    good = wanted - len(failures) - len(idle) - (right is not None)
    failures += [f"seed {seed}: the control '{name}' loses nothing, so the states prove nothing" for name in idle]
    if right is not None:
        failures.append(f"seed {seed}: one file, done right, is lost too, so the states are not POSIX's: {right[1]}")
    notes = "the controls lose, as they must: " + ", ".join(f"{name} in state {lost[0]}" for name, lost in first.items() if lost)
    return Result("crash states", wanted, good, failures, notes)


def _record(folder: Path, work: Callable[[Path], None]) -> list[Operation]:
    """What work does in an empty folder."""
    folder.mkdir()
    with Disk(folder).installed() as disk:
        work(folder)
    shutil.rmtree(folder)
    return disk.operations


def _lost(
    folder: Path, operations: list[Operation], judge: Callable[[Path, Folder], str | None], seed: int, count: int
) -> Iterator[tuple[int, str]]:
    """Cut the power at seeded instants after the folder itself is safe: the states in which something is lost, and a line for each."""
    first = operations.index(Operation("fsync", ".")) + 1
    for number in range(count):
        chosen = random.Random(f"{seed} {number}")
        at = chosen.randint(first, len(operations))
        shutil.rmtree(folder, ignore_errors=True)
        before = replay(operations[:at])
        before.after_a_crash(folder, chosen)
        if what := judge(folder, before):
            yield number, f"seed {seed}, state {number}, power cut after operation {at} ({operations[at - 1]}): {what}"


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
