"""A save as a run does it, what it has acknowledged, and whether a run folder is what it must be after a fault."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from trainer.checkpoint import store
from trainer.checkpoint.writer import Order, commit
from trainer.config.schema import CheckpointSection
from trainer.errors import CheckpointError
from trainer.rundir import RunDir, read_jsonl

POLICY = CheckpointSection(keep_last=2)
MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class Save:
    """One checkpoint to be written.

    Args:
        step: its step.
        size: elements of its tensors.
        best: with a value it becomes the best one.
    """

    step: int
    size: int
    best: float | None = None

    def to(self, run: RunDir) -> str:
        """The whole sequence: write, point, acknowledge, read back, prune."""
        return commit(run, Order(state(self.step, self.size), {"epoch": 1, "config": "0" * 64}, self.best), POLICY, 0)


def state(step: int, size: int) -> dict[str, Any]:
    """A training state that can be told from every other: its numbers follow from step and size."""
    numbers = torch.Generator().manual_seed(step * 1000 + size)
    weight, mean = torch.randn(size, generator=numbers), torch.randn(size, generator=numbers)
    return {"step": step, "size": size, "model": {"weight": weight}, "optimizer": {"state": {0: {"mean": mean}}}}


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder in memory where there is one: no case is about this machine's own disk."""
    with tempfile.TemporaryDirectory(prefix="disk-", dir=MEMORY if MEMORY.is_dir() else None) as name:
        yield Path(name).resolve()


def new_run(folder: Path, *saves: Save) -> RunDir:
    """A run folder in which these were saved."""
    run = RunDir(folder)
    run.create()
    for save in saves:
        save.to(run)
    return run


def copy_of(run: RunDir, folder: Path) -> RunDir:
    """The same in another place; what was there goes."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(run.path, folder, symlinks=True)
    return RunDir(folder)


def acknowledged(run: RunDir) -> list[str]:
    """The checkpoints that the run has said it has, oldest first."""
    return [str(row["checkpoint"]) for row in read_jsonl(run.events) if row["event"] == "checkpointed"]


def order(name: str) -> tuple[int, int]:
    """Where a checkpoint stands: by step, then by the number behind it."""
    step, _, again = name.removeprefix("step-").partition(".")
    return int(step), int(again or 0)


def defect(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint: it cannot be loaded, or holds what was not saved under that name."""
    try:
        found = store.load(checkpoint)
    except CheckpointError as fault:
        return str(fault)
    return None if _holds(found, order(checkpoint.name)[0]) else f"{checkpoint}: loads, and holds another state"


def _holds(found: dict[str, Any], step: int) -> bool:
    wanted = state(step, found["size"])
    pairs = [(found["model"]["weight"], wanted["model"]["weight"])]
    pairs.append((found["optimizer"]["state"][0]["mean"], wanted["optimizer"]["state"][0]["mean"]))
    return found["step"] == step and all(torch.equal(a, b) for a, b in pairs)


def loss(run: RunDir, acked: Collection[str], kept: Collection[str]) -> str | None:
    """What a fault has cost that it must not cost; None: nothing.

    Args:
        run: the folder after the fault.
        acked: what was acknowledged before it.
        kept: what must still be there, whole.
    """
    folder = run.checkpoints
    try:
        found, _ = store.newest_good(folder)
    except Exception as fault:
        return f"newest_good raises {type(fault).__name__}: {fault}"
    latest = max(acked, key=order, default=None)
    if latest is not None and (found is None or order(found) < order(latest)):
        return f"{latest} was acknowledged, and the newest good one is {found}"
    for name in {*kept, *([found] if found else [])}:
        if what := defect(folder / name):
            return f"lost: {what}"
    for pointer in ("last", "best"):
        there = store.pointed(folder, pointer)
        if (folder / f"{pointer}.json").exists() and (there is None or defect(folder / there)):
            return f"{pointer}.json names no good checkpoint"
    return None if latest is None or store.pointed(folder, "last") else "there is no last.json"


def goes_on(run: RunDir) -> str | None:
    """What stands in the way of the next start and its save; None: nothing, and they cleared away what the fault had left."""
    run.clear_partials()  # as a start does
    steps = [order(name)[0] for name in store.names(run.checkpoints)]
    try:
        name = Save(max(steps, default=0) + 1, 20).to(run)
    except Exception as fault:
        return f"the next save fails: {type(fault).__name__}: {fault}"
    if store.newest_good(run.checkpoints) != (name, []) or defect(run.checkpoints / name):
        return f"the next save is not the newest good one: {store.newest_good(run.checkpoints)}"
    left = [path.name for pattern in (".partial-*", ".*.partial") for path in run.path.rglob(pattern)]
    return f"the next save leaves {left[0]}" if left else None
