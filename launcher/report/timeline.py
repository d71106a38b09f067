"""What happened when, as a picture of bars and as a table. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from launcher.report.history import SIGNS, Attempt, what_happened
from launcher.report.markup import Markup, folded, join, table, tag
from launcher.report.words import duration, moment, plural

MOST_BARS = 60
MOST_ROWS = 400
IDLE_SHARE = 0.1
"""A pause is drawn no longer than this share of the time at work: weeks in a queue would leave no room for anything else."""


class Clock:
    """Times as places from 0 to 100, with long pauses shortened.

    Args:
        attempts: at least one.
    """

    def __init__(self, attempts: Sequence[Attempt]) -> None:
        worked = sum(attempt.seconds for attempt in attempts) or 1.0
        self.cuts: list[tuple[float, float, float]] = []
        """From when, to when, and how much of it is left out."""
        for before, after in itertools.pairwise(attempts):
            pause = after.begin - before.end
            if pause > IDLE_SHARE * worked:
                self.cuts.append((before.end, after.begin, pause - IDLE_SHARE * worked))
        self.begin = attempts[0].begin
        self.length = max(1e-3, self._moved(max(attempt.end for attempt in attempts)))

    def _moved(self, at: float) -> float:
        left_out = sum(cut * min(1.0, max(0.0, (at - begin) / (end - begin))) for begin, end, cut in self.cuts)
        return at - self.begin - left_out

    def place(self, at: float) -> float:
        """Where a time lies."""
        return min(100.0, max(0.0, 100 * self._moved(at) / self.length))


def timeline(attempts: Sequence[Attempt], events: Sequence[Mapping[str, Any]]) -> Markup:
    """The attempts as bars with their checkpoints, and all events as a table."""
    if not attempts:
        return join([tag("p", "No attempt has begun yet."), _table(events)])
    shown = attempts[-MOST_BARS:]
    clock = Clock(shown)
    rows = [_bar(attempt, clock) for attempt in shown]
    more = f" The first {len(attempts) - len(shown)} are only in the table." if len(shown) < len(attempts) else ""
    pauses = " Long pauses are drawn shortened." if clock.cuts else ""
    ends = tag(
        "p",
        tag("span", moment(shown[0].begin)),
        tag("span", moment(max(attempt.end for attempt in shown))),
        class_="ends",
    )
    key = tag("p", "Each bar is a start of the workers; each line across it a checkpoint.", pauses, more, class_="note")
    return join([tag("ol", *rows, class_="timeline"), ends, key, _table(events)])


def _bar(attempt: Attempt, clock: Clock) -> Markup:
    left, right = clock.place(attempt.begin), clock.place(attempt.end)
    width = max(right - left, 0.6)
    left = min(left, 100 - width)
    ticks = [
        tag("i", style=f"left:{(clock.place(at) - left) / width:.2%}", title=f"{row.get('checkpoint')}, {moment(at, day=False)}")
        for at, row in attempt.saves
        if row.get("event") == "checkpointed"
    ]
    workers = plural(attempt.workers, "worker") if attempt.workers is not None else "workers unknown"
    source = f"from {attempt.checkpoint}" if attempt.checkpoint else "from the beginning"
    saves = plural(len(attempt.saves), "checkpoint")
    reason = f": {attempt.reason}" if attempt.reason else ""
    end = tag(
        "span", tag("span", SIGNS[attempt.ending], aria_hidden="true"), f" {said(attempt.ending)}{reason}", class_=f"end {attempt.ending}"
    )
    facts = tag("span", f"{workers}, {source}, {duration(attempt.seconds)}, {saves}", class_="facts")
    head = tag("p", tag("b", f"Attempt {attempt.number}"), " ", facts, " ", end)
    bar = tag("span", *ticks, class_=f"bar {attempt.ending}", style=f"left:{left:.2f}%;width:{width:.2f}%")
    return tag("li", head, tag("div", bar, class_="track", aria_hidden="true"))


def said(ending: str) -> str:
    """An ending for people: nobody writes down a SIGKILL."""
    return {"lost": "killed or lost", "requeued": "preempted, back in the queue", "restarted": "restarted after a fault"}.get(
        ending, ending
    )


def _table(events: Sequence[Mapping[str, Any]]) -> Markup:
    if not events:
        return tag("p", "There are no events.")
    shown = events[-MOST_ROWS:]
    rows = [
        (
            tag("time", moment(row.get("time"))),
            row.get("event", "–"),
            "–" if row.get("attempt") is None else row["attempt"],
            what_happened(row),
        )
        for row in shown
    ]
    left_out = f", the newest {len(shown):,} of {len(events):,}" if len(shown) < len(events) else ""
    made = table(f"Events{left_out}", ["time", "event", "attempt", "facts"], rows, numbers=False, class_="events")
    return folded(plural(len(events), "event"), made)
