"""What there is to see of a run now. Files are read as they grow, so a look costs little however long the run is."""

from __future__ import annotations

import json
import os
import re
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launcher.standing import Standing, look_at, number, whole
from launcher.status import Row, row_of
from trainer.errors import RunFolderError
from trainer.rundir import RunDir, read_json

STANDING_EVERY_S = 1.0
IN_SLURM_EVERY_S = 10.0
"""How it stands is not asked anew in each look: of a run in Slurm that would be a question to the whole cluster."""
FIRST_BYTES = 1 << 22
MOST_POINTS = 4000
PACE_S = 60.0
MOST_RANKS = 4096


class Grown:
    """The new rows of a file since the last look; one that was made anew is read from its beginning.

    Args:
        path: a JSONL file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file: tuple[int, int] = (0, 0)
        self.at = 0

    def rows(self) -> tuple[bool, list[dict[str, Any]]]:
        """Whether what was read before no longer counts, and the rows that are new."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            return False, []
        with open(descriptor, "rb") as file:
            facts = os.fstat(descriptor)
            anew = (facts.st_dev, facts.st_ino) != self.file or facts.st_size < self.at
            if anew:
                self.file, self.at = (facts.st_dev, facts.st_ino), max(0, facts.st_size - FIRST_BYTES)
            file.seek(self.at)
            lines = file.read(facts.st_size - self.at).split(b"\n")
        self.at = facts.st_size - len(lines[-1])  # a line that is being written is read when it is whole
        return anew, [row for line in lines[:-1] if isinstance(row := _parsed(line), dict)]


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


@dataclass
class Glance:
    """What is seen.

    Args:
        run: the folder.
        now: when.
        standing: how it stands; row: the line of ``ostinato status``; None: there is no run yet.
        problem: why there is nothing to see.
        beats: each rank's heartbeat, of the newest attempt.
        curves: by split and figure.
        newest: the newest row of each split.
        steps_per_s: over the last minute of training.
        waiting: the share of the time in training for which each rank waited for data.
        saves: the newest checkpoints' events; events: the newest others.
    """

    run: RunDir
    now: float
    standing: Standing | None = None
    row: Row | None = None
    problem: str = ""
    beats: list[dict[str, Any]] = field(default_factory=list)
    curves: dict[tuple[str, str], deque[float]] = field(default_factory=dict)
    newest: dict[str, dict[str, Any]] = field(default_factory=dict)
    steps_per_s: float | None = None
    waiting: dict[int, float] = field(default_factory=dict)
    saves: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    batch_size: int | None = None

    @property
    def over(self) -> bool:
        """Whether nobody runs it, and it has begun."""
        return self.standing is not None and not self.standing.on and self.standing.state != "created"

    @property
    def left_s(self) -> float | None:
        """How long it will take at this pace."""
        if self.row is None or self.row.of is None or self.row.step is None or not self.steps_per_s:
            return None
        return max(0.0, (self.row.of - self.row.step) / self.steps_per_s)


class Looker:
    """Looks at a run again and again.

    Args:
        run: the folder, which need not be there yet.
    """

    def __init__(self, run: RunDir) -> None:
        self.run = run
        self.metrics, self.events = Grown(run.metrics), Grown(run.events)
        self.curves: dict[tuple[str, str], deque[float]] = {}
        self.newest: dict[str, dict[str, Any]] = {}
        self.pace: deque[tuple[float, float, Any]] = deque(maxlen=MOST_POINTS)
        self.saves: deque[dict[str, Any]] = deque(maxlen=3)
        self.others: deque[dict[str, Any]] = deque(maxlen=4)
        self.asked = -IN_SLURM_EVERY_S
        self.standing: Standing | None = None
        self.row: Row | None = None
        self.problem = ""
        self.batch_size: int | None = None
        self.spent: dict[int, deque[tuple[float, float, Any]]] = {}

    def look(self) -> Glance:
        """One look."""
        self._ask()
        glance = Glance(self.run, time.time(), self.standing, self.row, self.problem, batch_size=self.batch_size)
        if self.standing is None:
            return glance
        try:
            self._read_metrics()
            self._read_events()
            glance.beats = self._beats()
        except OSError as fault:
            glance.problem = f"{fault.filename or self.run.path}: cannot be read ({fault.strerror})"
        glance.curves, glance.newest = self.curves, self.newest
        glance.saves, glance.events = list(self.saves), list(self.others)
        glance.steps_per_s, glance.waiting = self._steps_per_s(), self._waiting(glance.beats)
        return glance

    def _ask(self) -> None:
        """How it stands, unless that was asked a moment ago."""
        every = IN_SLURM_EVERY_S if self.standing is not None and self.standing.facts.job_id else STANDING_EVERY_S
        if time.monotonic() - self.asked < every:
            return
        try:
            self.standing, warning = look_at(self.run)
            self.row = row_of(self.run, self.standing)
            self.problem = warning or (self.row.detail if self.row.state == "unreadable" else "")
            self.batch_size = self.batch_size or _batch_size(self.run)
        except RunFolderError as fault:
            self.standing, self.row, self.problem = None, None, str(fault)
        self.asked = time.monotonic()  # from the answer on: a Slurm that hangs takes as long as it may

    def _read_metrics(self) -> None:
        anew, rows = self.metrics.rows()
        if anew:
            self.curves, self.newest = {}, {}
            self.pace.clear()
        for row in rows:
            split = row.get("split")
            if not isinstance(split, str):
                continue
            self.newest[split] = row
            for name, value in row.items():
                if (found := number(value)) is not None and name not in ("time", "attempt", "step", "epoch"):
                    self.curves.setdefault((split, name), deque(maxlen=MOST_POINTS)).append(found)
            at, step = number(row.get("time")), number(row.get("step"))
            if split == "train" and at is not None and step is not None:
                self.pace.append((at, step, row.get("attempt")))

    def _read_events(self) -> None:
        anew, rows = self.events.rows()
        if anew:
            self.saves.clear()
            self.others.clear()
        for row in rows:
            (self.saves if row.get("event") == "checkpointed" else self.others).append(row)

    def _beats(self) -> list[dict[str, Any]]:
        found = []
        for path in sorted(self.run.heartbeats.glob("rank-*.json"), key=_rank_of)[:MOST_RANKS]:
            try:
                beat = read_json(path)
            except (OSError, ValueError, RecursionError):
                continue  # it is being replaced
            if isinstance(beat, dict) and whole(beat.get("rank")) is not None:
                found.append(beat)
        newest = max((whole(beat.get("attempt")) or 0 for beat in found), default=0)
        return [beat for beat in found if (whole(beat.get("attempt")) or 0) == newest]

    def _steps_per_s(self) -> float | None:
        """Over the last minute of the newest attempt: a run that was away has not been slow."""
        if not self.pace:
            return None
        end, last, attempt = self.pace[-1]
        begin, first = end, last
        for at, step, which in reversed(self.pace):
            if which != attempt or end - at > PACE_S:
                break
            begin, first = at, step
        return (last - first) / (end - begin) if end > begin and last > first else None

    def _waiting(self, beats: list[dict[str, Any]]) -> dict[int, float]:
        """Over what was seen of the last minute; in the first look over the whole attempt."""
        found = {}
        for beat in beats:
            rank, waited, worked = whole(beat.get("rank")), number(beat.get("waited_s")), number(beat.get("worked_s"))
            if rank is None or waited is None or worked is None:
                continue
            seen = self.spent.setdefault(rank, deque(maxlen=round(PACE_S * 2)))
            if seen and seen[-1][2] != beat.get("attempt"):
                seen.clear()
            first = seen[0] if seen else (0.0, 0.0, None)
            seen.append((waited, worked, beat.get("attempt")))
            total = waited - first[0] + worked - first[1]
            if total <= 0:
                first, total = (0.0, 0.0, None), waited + worked
            if total > 0:
                found[rank] = (waited - first[0]) / total
        return found


def _rank_of(path: Path) -> int:
    match = re.fullmatch(r"rank-(\d+)\.json", path.name)
    return int(match[1]) if match else MOST_RANKS


def _batch_size(run: RunDir) -> int | None:
    """The config's, without taking the whole YAML apart; None: it cannot be read, or not at this moment."""
    try:
        text = run.config.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    match = re.search(r"^  batch_size: (\d+)$", text, re.MULTILINE)
    return int(match[1]) if match else None
