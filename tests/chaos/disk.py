"""Every file operation of a save, and every byte of a row, met by a kill, a full disk and a broken one: nothing acknowledged is lost."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tests.chaos import saves
from tests.chaos.result import Result
from tests.chaos.saves import Save
from tests.support import system_calls
from tests.support.faulty_disk import Ending, ending_of
from tests.support.file_faults import KILLS, WRITES_ONLY, Disk, Fault, Operation
from trainer.checkpoint import store
from trainer.metrics.writer import keep_rows
from trainer.rundir import RunDir, append_jsonl, read_jsonl


@dataclass(frozen=True)
class Shape:
    """A folder as a save may find it, and the save.

    Args:
        run: three checkpoints, the first is the best; sometimes also what a kill has left.
        save: the next one.
        operations: what it does to the disk when nothing fails.
        kept: the older ones that the policy keeps.
    """

    run: RunDir
    save: Save
    operations: tuple[Operation, ...]
    kept: frozenset[str]


def every_operation(seed: int, count: int = 8) -> Result:
    """Each operation of `count` saves of different shape × kill before, in the middle, after × a full, a broken, a short-writing disk."""
    chosen, failures, wanted, killed, raised = random.Random(seed), [], 0, 0, 0
    with saves.scratch() as folder:
        for number in range(count):
            shape = make_shape(folder, chosen, number)
            for at, fault in cases(shape.operations):
                ending, what = _one(shape, folder / "case", at, fault)
                wanted, killed, raised = wanted + 1, killed + ending.killed, raised + (ending.error is not None)
                if what is not None:
                    failures.append(f"seed {seed}, save {number}, {fault.value} operation {at} ({shape.operations[at]}): {what}")
        notes = f"{count} saves; {killed} ended by the kill, {raised} by an error, {wanted - killed - raised} whole"
        if system_calls.available():
            what, wanted = miscounted(folder), wanted + 1
            failures += [f"seed {seed}: {what}"] if what else []
            notes += "; strace counts other operations" if what else "; strace counts the same operations"
        else:
            notes += "; strace is not installed: the operations are our own count"
    return Result("every operation", wanted, wanted - len(failures), failures, notes)


def make_shape(folder: Path, chosen: random.Random, number: int) -> Shape:
    """Three checkpoints and the next save: of any size, best or not, of a step that is there already, after a kill that left its rest."""
    size = chosen.choice([1, 40, 700, 3000])
    run = saves.new_run(folder / f"shape-{number}", Save(10, size, best=0.1), Save(20, size), Save(30, size))
    step = 40 if chosen.random() < 0.8 else 30
    save = Save(step, size, best=0.2 if chosen.random() < 0.5 else None)
    if number % 2:
        operations = _operations(run, save, folder / "clean")[0]
        ending_of(lambda: save.to(run), Disk(run.path, Fault.KILL_AFTER, chosen.randrange(len(operations))))
    operations, after = _operations(run, save, folder / "clean")
    return Shape(run, save, operations, frozenset(store.names(run.checkpoints)) & after)


def _operations(run: RunDir, save: Save, folder: Path) -> tuple[tuple[Operation, ...], frozenset[str]]:
    """What the save does when nothing fails, and the checkpoints that are there afterwards."""
    clean = saves.copy_of(run, folder)
    with Disk(clean.path).installed() as disk:
        save.to(clean)
    return tuple(disk.operations), frozenset(store.names(clean.checkpoints))


def cases(operations: tuple[Operation, ...]) -> Iterator[tuple[int, Fault]]:
    """Every fault that can come at each of the operations."""
    for at, operation in enumerate(operations):
        for fault in Fault:
            if fault not in WRITES_ONLY or len(operation.data) > 1:
                yield at, fault


def _one(shape: Shape, folder: Path, at: int, fault: Fault) -> tuple[Ending, str | None]:
    """One save with one fault: how it ended, and what is wrong about that."""
    run = saves.copy_of(shape.run, folder)
    before = saves.acknowledged(run)
    ending = ending_of(lambda: shape.save.to(run), Disk(run.path, fault, at))
    acked = saves.acknowledged(run)
    what = _bad_ending(ending, fault, len(acked) > len(before))
    if what is None:
        torn = [what for name in store.names(run.checkpoints) if (what := saves.defect(run.checkpoints / name))]
        what = f"half a checkpoint has a name: {torn[0]}" if torn else None
    return ending, what or saves.loss(run, acked, {*shape.kept, *acked[len(before) :]}) or saves.goes_on(run)


def miscounted(folder: Path) -> str | None:
    """Where our count of a save's operations and strace's part; None: nowhere."""
    save, run = Save(40, 3000, best=0.2), saves.new_run(folder / "counted", Save(10, 700, best=0.1), Save(20, 700), Save(30, 700))
    ours = [operation.kind for operation in _operations(run, save, folder / "ours")[0]]
    code = "import sys; from tests.chaos.saves import *; Save(40, 3000, best=0.2).to(RunDir(sys.argv[1]))"
    strace = system_calls.changes(run.path, code, str(run.path))
    return None if ours and ours == strace else f"we count {len(ours)} operations and strace {len(strace)}: {ours} {strace}"


def _bad_ending(ending: Ending, fault: Fault, is_acknowledged: bool) -> str | None:
    if ending.strange:
        return f"the process ends in another way: {ending.strange}"
    if ending.killed != (fault in KILLS):
        return f"killed: {ending.killed}, so the test is broken"
    if not ending.ours:
        return f"what is raised is no OSError and none of ours: {ending.error}"
    if not ending.killed and is_acknowledged == (ending.error is not None):
        return f"acknowledged: {is_acknowledged}, and its error is {ending.error}"
    return None


def overwrite(folder: Path, step: int) -> None:
    """The naive save, for control: one file, written over in place."""
    with open(folder / "latest.pt", "wb") as file:
        torch.save(saves.state(step, 700), file)


def naive_kills(seed: int, count: int = 1) -> Result:
    """Control: the same kills lose the state of a naive save. Good is a control that fails as it must."""
    lost: Counter[str] = Counter()
    with saves.scratch() as scratch:
        overwrite(scratch, 1)
        good = (scratch / "latest.pt").read_bytes()
        with Disk(scratch).installed() as disk:
            overwrite(scratch, 2)
        for at, fault in cases(tuple(disk.operations)):
            (scratch / "latest.pt").write_bytes(good)
            ending_of(lambda: overwrite(scratch, 2), Disk(scratch, fault, at))
            lost["lost" if _unreadable(scratch / "latest.pt") else "there"] += 1
    failures = [] if lost["lost"] else [f"seed {seed}: a naive save loses nothing, so the kills prove nothing"]
    return Result(
        "naive save (control)", 1, int(lost["lost"] > 0), failures, f"lost at {lost['lost']} of {lost.total()} faults, as it must"
    )


def _unreadable(path: Path) -> bool:
    try:
        torch.load(path, weights_only=True)
    except Exception:
        return True
    return False


def torn_rows(seed: int, count: int = 3) -> Result:
    """A row of metrics cut at every byte by a kill and by a full disk, then the next one cut too: only whole rows are ever read."""
    chosen, failures, wanted = random.Random(seed), [], 0
    with saves.scratch() as folder:
        for _ in range(count):
            row = {"time": 1.5, "step": chosen.randrange(10**9), "split": "train", "loss": chosen.random(), "text": "a\nb é"}
            length = len(_line(folder / "length.jsonl", row))
            for keep in range(length + 1):
                for fault in (Fault.KILL_MIDDLE, Fault.SHORT_THEN_FULL):
                    wanted += 1
                    if what := _torn(folder, row, fault, keep, chosen.randrange(length)):
                        failures.append(f"seed {seed}, row {row}, {fault.value} byte {keep}: {what}")
        for at, fault, what in _cut_back(folder):
            wanted += 1
            if what is not None:
                failures.append(f"seed {seed}, cutting metrics.jsonl back, {fault.value} operation {at}: {what}")
    return Result("torn rows", wanted, wanted - len(failures), failures, f"{count} rows, each cut at every byte")


def _line(path: Path, row: dict[str, Any]) -> bytes:
    path.unlink(missing_ok=True)
    append_jsonl(path, row)
    return path.read_bytes()


def _torn(folder: Path, row: dict[str, Any], fault: Fault, keep: int, second: int) -> str | None:
    """Two rows, one that is cut, another that is cut, a last one: what is wrong with what is read."""
    path, length = folder / "metrics.jsonl", len(_line(folder / "length.jsonl", row))
    path.write_bytes(_line(folder / "length.jsonl", {"step": 1}) + _line(folder / "length.jsonl", {"step": 2}))
    first = [{"step": 1}, {"step": 2}]
    ending = ending_of(lambda: append_jsonl(path, row), Disk(folder, fault, 1, keep=keep))
    if not ending.killed and (ending.error is None) != (keep == length):
        return f"{keep} of {length} bytes were written, and the error is {ending.error}"
    if list(read_jsonl(path)) != first + [row] * (keep == length):
        return f"read: {list(read_jsonl(path))}"
    whole = [row] * (keep >= length - 1)
    ending_of(lambda: append_jsonl(path, {**row, "again": True}), Disk(folder, Fault.SHORT_THEN_FULL, 1, keep=second))
    append_jsonl(path, {"step": 3})
    found = list(read_jsonl(path))
    return None if found == [*first, *whole, {"step": 3}] else f"read after two cuts: {found}"


def _cut_back(folder: Path) -> Iterator[tuple[int, Fault, str | None]]:
    """The same for cutting the rows back to a checkpoint's: the old ones are there, or the new ones."""
    run = RunDir(folder / "run")
    run.create()

    def fill() -> None:
        run.metrics.write_bytes(b"".join(b'{"step": %d}\n' % step for step in range(1, 6)))

    def cut() -> None:
        keep_rows(run, 3)

    fill()
    with Disk(run.path).installed() as disk:
        cut()
    for at, fault in cases(tuple(disk.operations)):
        fill()
        ending_of(cut, Disk(run.path, fault, at))
        steps = [row["step"] for row in read_jsonl(run.metrics)]
        yield at, fault, None if steps in ([1, 2, 3], [1, 2, 3, 4, 5]) else f"steps {steps}"
