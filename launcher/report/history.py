"""A run's attempts, from its events: when each began, on what, and how it ended. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from launcher.standing import number, whole

SIGNS = {
    "finished": "✓",
    "stopped": "■",
    "requeued": "⏎",
    "restarted": "↻",
    "failed": "✕",
    "lost": "✕",
    "running": "▶",
}
"""How an attempt's end is drawn; its word stands beside it."""


@dataclass
class Attempt:
    """One start and what became of it.

    Args:
        number: counted from 0.
        begin: when it began; end: when it ended or was last seen.
        workers: how many.
        checkpoint: what it went on from; None: from the beginning.
        ending: finished, stopped, requeued, restarted, failed, lost or running.
        reason: the signal, or the first cause.
        saves: when each checkpoint was written, and its event.
    """

    number: int
    begin: float
    end: float
    workers: int | None = None
    checkpoint: str | None = None
    ending: str = "lost"
    reason: str = ""
    step: int | None = None
    saves: list[tuple[float, dict[str, Any]]] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """How long it ran."""
        return self.end - self.begin


def attempts_of(events: Sequence[Mapping[str, Any]], seen: Mapping[int, float], *, running: bool, now: float) -> list[Attempt]:
    """The attempts that have begun, in order.

    Args:
        events: the run's.
        seen: when an attempt was last seen at work, besides.
        running: the last one is under way.
        now: its end, then.
    """
    found: list[Attempt] = []
    for row in events:
        at, name = number(row.get("time")), row.get("event")
        if at is None:
            continue
        if name in ("started", "resumed"):
            checkpoint = row.get("checkpoint")
            first = whole(row.get("attempt"))
            index = len(found) if first is None else first
            found.append(Attempt(index, at, at, whole(row.get("workers")), checkpoint if isinstance(checkpoint, str) else None))
        elif found:
            _note(found[-1], at, str(name), row)
    for attempt in found:
        if attempt.ending in ("lost", "running"):
            attempt.end = max(attempt.end, seen.get(attempt.number, attempt.end))
    for attempt, after in itertools.pairwise(found):
        attempt.end = min(attempt.end, after.begin)
    if found and running and found[-1].ending == "lost":
        found[-1].ending, found[-1].end = "running", max(now, found[-1].begin)
    return found


def _note(attempt: Attempt, at: float, name: str, row: Mapping[str, Any]) -> None:
    """Take down what happened within an attempt."""
    if name == "checkpointed":
        attempt.saves.append((at, dict(row)))
        attempt.step = whole(row.get("step")) or attempt.step
        attempt.end = max(attempt.end, at) if attempt.ending == "lost" else attempt.end
    elif name in SIGNS and name not in ("lost", "running"):
        if name == "requeued" and attempt.ending == "stopped":
            attempt.ending = name  # a stop for the queue's sake
        elif attempt.ending == "lost":
            attempt.ending, attempt.end = name, max(at, attempt.begin)
        attempt.step = whole(row.get("step")) or attempt.step
        reason = row.get("reason") or row.get("signal")
        attempt.reason = str(reason) if reason else attempt.reason


def worked_s(attempts: Sequence[Attempt]) -> float:
    """Seconds in which the run was at work."""
    return sum(max(0.0, attempt.seconds) for attempt in attempts)


def what_happened(row: Mapping[str, Any]) -> str:
    """An event's facts in a line, without its time and name."""
    left_out = ("time", "event", "attempt", "weights")
    facts = {key: value for key, value in row.items() if key not in left_out and value is not None and value != []}
    return ", ".join(f"{key} {_plain(value)}" for key, value in facts.items())


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return " ".join(str(item) for item in value)
    return str(value)
