"""What a report tells of a run, read from its folder. A file that is torn, missing or nonsense is said, and the rest is told."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from launcher.report.series import Series
from launcher.standing import Standing, look_at, number, whole
from launcher.status import Row, row_of
from trainer.checkpoint import manifest
from trainer.rundir import RunDir, read_json

PLAIN = frozenset({"time", "attempt", "step", "epoch", "split"})
Spent = tuple[float | None, float | None]
SPLITS = ("train", "epoch", "valid", "test")
MOST_CONFIG = 1 << 20
MOST_EVALUATION = 1 << 26


@dataclass
class RunData:
    """A run as it is told.

    Args:
        run: the folder.
        standing: how it stands; row: the line of ``ostinato status``.
        read_at: when it was read.
        label: what it is called here, where that is not the folder's name.
        config: the resolved config's text; settings: the same as values.
        environment: an entry for each start.
        events: all of them.
        curves: by split and figure, over steps; newest: the newest row of each split.
        clock: when each logged step was done.
        seen: when each attempt was last seen at work.
        system: by figure and rank, over seconds since the first event.
        evaluations: by split; samples: by split.
        evaluated: what ``ostinato evaluate`` found.
        checkpoints: those that are there; marks: which one is the best, the last.
        faults: what could not be read, and what was left out.
    """

    run: RunDir
    standing: Standing
    row: Row
    read_at: float
    label: str = ""
    config: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    environment: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    curves: dict[tuple[str, str], Series] = field(default_factory=dict)
    newest: dict[str, dict[str, Any]] = field(default_factory=dict)
    clock: Series = field(default_factory=Series)
    seen: dict[int, float] = field(default_factory=dict)
    system: dict[str, dict[int, Series]] = field(default_factory=dict)
    evaluations: dict[str, dict[str, Any]] = field(default_factory=dict)
    samples: dict[str, dict[str, Any]] = field(default_factory=dict)
    evaluated: list[dict[str, Any]] = field(default_factory=list)
    checkpoints: list[str] = field(default_factory=list)
    marks: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What it is called here, else the folder's name, also where the run was named by ``.``."""
        return self.label or self.row.name

    @property
    def began(self) -> float:
        """When the run was created, as far as is known."""
        return next((at for row in self.events if (at := number(row.get("time"))) is not None), self.read_at)

    def first(self, split: str, figure: str) -> float | None:
        """The newest value of a figure."""
        return number(self.newest.get(split, {}).get(figure))


def read(run: RunDir, label: str = "") -> RunData:
    """Read a run.

    Args:
        run: the folder.
        label: what it is called; else it has the folder's name.

    Raises:
        RunFolderError: it is no run, or its events cannot be read.
    """
    standing, warning = look_at(run)
    row = row_of(run, standing)
    data = RunData(run, standing, row, time.time(), label)
    if warning:
        data.faults.append(warning)
    if row.state == "unreadable":
        data.faults.append(row.detail)
    for part in (_config, _environment, _events, _metrics, _system, _evaluations, _evaluated, _checkpoints):
        _guarded(data, part)
    return data


def _guarded(data: RunData, part: Callable[[RunData], None]) -> None:
    try:
        part(data)
    except OSError as fault:
        data.faults.append(f"{fault.filename or data.run.path}: cannot be read ({fault.strerror})")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError, yaml.YAMLError) as fault:
        data.faults.append(f"{data.run.path / part.__name__.strip('_')}: not what was expected ({str(fault).partition(chr(10))[0][:120]})")


def _config(data: RunData) -> None:
    data.config = plain_bytes(data.run.config, MOST_CONFIG).decode(errors="replace")
    value = yaml.load(data.config, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    data.settings = value if isinstance(value, dict) else {}


def _environment(data: RunData) -> None:
    if data.run.environment.exists():
        value = json.loads(plain_bytes(data.run.environment, 1 << 26))
        data.environment = [entry for entry in value if isinstance(entry, dict)]


def _events(data: RunData) -> None:
    data.events = list(rows_of(data.run.events, data.faults))


def _metrics(data: RunData) -> None:
    curves = data.curves
    for row in rows_of(data.run.metrics, data.faults):
        step, split = number(row.get("step")), row.get("split")
        if step is None or split not in SPLITS:
            continue
        for name, value in row.items():
            if name in PLAIN or isinstance(value, (str, list, dict, bool)):
                continue
            series = curves.get((split, name))
            if series is None:
                series = curves[split, name] = Series()
            series.add(step, value)
        at = number(row.get("time"))
        if at is not None:
            if split == "train":
                data.clock.add(at, step)
            attempt = whole(row.get("attempt"))
            if attempt is not None:
                data.seen[attempt] = at
        data.newest[split] = row


def _system(data: RunData) -> None:
    began = data.began
    before: dict[int, Spent] = {}
    for row in rows_of(data.run.system, data.faults):
        at = number(row.get("time"))
        if at is None:
            continue
        _sample(data, "memory_available_bytes", 0, at - began, row.get("memory_available_bytes"))
        for figures in row.get("ranks") or []:
            rank = whole(figures.get("rank"))
            if rank is None:
                continue
            for name in ("cpu_percent", "rss_bytes", "gpu_bytes"):
                if figures.get(name) is not None:
                    _sample(data, name, rank, at - began, figures[name])
            spent = number(figures.get("waited_s")), number(figures.get("worked_s"))
            if (share := waiting_share(before.get(rank), spent)) is not None:
                _sample(data, "waiting_share", rank, at - began, share)
            before[rank] = spent


def waiting_share(before: Spent | None, now: Spent) -> float | None:
    """The share of the time between two samples in which training waited for data. Both count from an attempt's start."""
    (waited, worked), (first_waited, first_worked) = now, before or (None, None)
    if waited is None or worked is None:
        return None
    if first_waited is None or first_worked is None or first_waited > waited or first_worked > worked:
        first_waited = first_worked = 0.0  # another attempt
    total = waited - first_waited + worked - first_worked
    return (waited - first_waited) / total if total > 0 and worked > first_worked else None


def _sample(data: RunData, name: str, rank: int, x: float, value: object) -> None:
    data.system.setdefault(name, {}).setdefault(rank, Series()).add(x, value)


def _evaluations(data: RunData) -> None:
    for split in ("valid", "test", "train"):
        for path, into in ((data.run.evaluation(split), data.evaluations), (data.run.samples(split), data.samples)):
            if path.exists():
                try:
                    value = read_json(path)
                except (ValueError, RecursionError):
                    data.faults.append(f"{path}: no JSON; left out")
                    continue
                if isinstance(value, dict):
                    into[split] = value
    if data.run.inputs.exists():
        known = read_json(data.run.inputs)
        classes = known.get("classes") if isinstance(known, dict) else None
        for found in data.evaluations.values():
            found.setdefault("classes", classes)


def _evaluated(data: RunData) -> None:
    for path in sorted(data.run.evaluations.glob("*/evaluation.json")):
        try:
            value = json.loads(plain_bytes(path, MOST_EVALUATION))
        except (ValueError, RecursionError):
            data.faults.append(f"{path}: no JSON; left out")
            continue
        if isinstance(value, dict):
            data.evaluated.append(value)


def _checkpoints(data: RunData) -> None:
    data.checkpoints = manifest.names(data.run.checkpoints)
    for mark in ("best", "last"):
        name = manifest.pointed(data.run.checkpoints, mark)
        if name is not None:
            data.marks[mark] = name


def plain_bytes(path: Path, most: int) -> bytes:
    """A plain file's beginning.

    Raises:
        OSError: it is none, or cannot be read.
    """
    with _opened(path) as file:
        return file.read(most)


def _opened(path: Path) -> BinaryIO:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe in the file's place must not hold us up
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(0, "not a plain file", str(path))
    return open(descriptor, "rb")


def rows_of(path: Path, faults: list[str]) -> Iterator[dict[str, Any]]:
    """The rows of a JSONL file one after the other, whatever its length; lines that are none are counted and said."""
    torn = 0
    try:
        file = _opened(path)
    except FileNotFoundError:
        return
    with file:
        for line in file:
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                torn += 1
                continue
            if isinstance(row, dict):
                yield row
            else:
                torn += 1
    if torn:
        faults.append(f"{path}: {torn} {'line is' if torn == 1 else 'lines are'} torn; left out")
