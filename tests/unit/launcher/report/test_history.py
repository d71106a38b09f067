"""Attempts from events: when each began and how it ended."""

from typing import Any

import pytest

from launcher.report.history import attempts_of, what_happened, worked_s
from launcher.report.read import waiting_share
from launcher.report.timeline import Clock, timeline


def event(at: float, name: str, **facts: Any) -> dict[str, Any]:
    return {"time": at, "event": name, **facts}


KILLED = [
    event(0, "created"),
    event(10, "started", attempt=0, workers=2, checkpoint=None),
    event(20, "checkpointed", attempt=0, step=19, checkpoint="step-00000019"),
    event(1000, "resumed", attempt=1, workers=1, checkpoint="step-00000019"),
    event(1020, "stopped", attempt=1, step=60, signal="SIGTERM"),
    event(1021, "requeued", attempt=1, reason="preempted"),
    event(5000, "resumed", attempt=2, workers=4, checkpoint="step-00000060"),
    event(5010, "restarted", attempt=2, exit_code=5, reason="rank 1 was killed", workers=4),
    event(5020, "resumed", attempt=3, workers=4, checkpoint="step-00000060"),
    event(5060, "finished", attempt=3, step=90),
]


def test_each_start_has_its_end() -> None:
    found = attempts_of(KILLED, {0: 25.0}, running=False, now=9999)
    assert [(a.number, a.workers, a.ending, a.begin, a.end) for a in found] == [
        (0, 2, "lost", 10, 25),  # nobody wrote down the kill: when it was last seen
        (1, 1, "requeued", 1000, 1020),
        (2, 4, "restarted", 5000, 5010),
        (3, 4, "finished", 5020, 5060),
    ]
    assert found[2].reason == "rank 1 was killed"
    assert worked_s(found) == 15 + 20 + 10 + 40


def test_the_last_attempt_of_a_running_run_is_under_way() -> None:
    (found,) = attempts_of(KILLED[:3], {}, running=True, now=33)
    assert (found.ending, found.end) == ("running", 33)
    (found,) = attempts_of(KILLED[:3], {}, running=False, now=33)
    assert (found.ending, found.end) == ("lost", 20)


@pytest.mark.parametrize("row", [{}, {"event": "started"}, {"time": "x", "event": "started"}, {"time": 3, "event": None, "attempt": []}])
def test_events_that_say_little_are_no_fault(row: dict[str, Any]) -> None:
    found = attempts_of([row, *KILLED], {}, running=False, now=0)
    assert len(found) == 4
    assert timeline(found, [row, *KILLED])


def test_long_pauses_are_drawn_shortened_and_times_stay_in_order() -> None:
    found = attempts_of(KILLED, {0: 25.0}, running=False, now=0)
    clock = Clock(found)
    places = [clock.place(at) for attempt in found for at in (attempt.begin, attempt.end)]
    assert places == sorted(places)
    assert (places[0], places[-1]) == (0, 100)
    assert places[-1] - places[-2] > 30  # of the 40 s in 5050 s
    assert "Long pauses are drawn shortened." in timeline(found, KILLED)


def test_a_run_that_never_began_has_a_timeline_too() -> None:
    assert "No attempt has begun yet." in timeline([], KILLED[:1])


def test_an_events_facts_are_one_line_without_what_stands_elsewhere() -> None:
    row = event(3, "checkpointed", attempt=0, step=19, weights="ab", seconds=0.25, more=None)
    assert what_happened(row) == "step 19, seconds 0.25"


def test_the_share_of_waiting_is_that_since_the_sample_before_and_begins_anew_with_an_attempt() -> None:
    assert waiting_share(None, (1.0, 3.0)) == 0.25
    assert waiting_share((1.0, 3.0), (1.0, 5.0)) == 0.0
    assert waiting_share((1.0, 3.0), (2.0, 4.0)) == 0.5
    assert waiting_share((9.0, 9.0), (1.0, 1.0)) == 0.5
    assert waiting_share((1.0, 3.0), (1.0, 3.0)) is None
    assert waiting_share((1.0, 3.0), (None, 3.0)) is None
