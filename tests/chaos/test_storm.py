"""A small storm: kills, signals, crowds and calm; the whole one is ``make chaos``."""

from __future__ import annotations

import pytest

from tests.chaos.__main__ import SCENARIOS, main
from tests.chaos.workload import End, lost_checkpoint

SEED = 3


@pytest.mark.parametrize("name", ["storm", "no_tree", "kills", "signals", "crowd", "payload", "healthy", "failures"])
def test_runs_stand_the_storm(name: str) -> None:
    result = SCENARIOS[name].run(SEED, "quick")
    assert result.failures == []
    assert result.good == result.wanted > 0


def test_a_scenario_that_cannot_be_loaded_fails_its_own_row_and_says_how_to_repeat_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = SCENARIOS["healthy"].__class__("nowhere:nothing", 1, 1, "is not there")
    monkeypatch.setitem(SCENARIOS, "healthy", broken)
    assert main(["--seed", "5", "--tier", "quick", "--only", "healthy"]) == 1
    said = capsys.readouterr().out
    assert "healthy broke down: ModuleNotFoundError" in said
    assert "once more: python -m tests.chaos --seed 5 --tier quick --only healthy" in said


SAVED = {"event": "checkpointed", "attempt": 0, "step": 6}


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ({"event": "resumed", "attempt": 1, "checkpoint": "step-00000006"}, None),
        ({"event": "resumed", "attempt": 1, "checkpoint": "step-00000009.1"}, None),
        ({"event": "resumed", "attempt": 1, "checkpoint": "step-00000003"}, "went on from step 3, and step 6 had been acknowledged"),
        ({"event": "started", "attempt": 1, "checkpoint": None}, "went on from step 0"),
        ({"event": "skipped", "attempt": 1, "reason": "torn"}, "skipped a checkpoint: torn"),
    ],
)
def test_a_start_that_has_lost_a_checkpoint_is_told(row: dict[str, object], found: str | None) -> None:
    said = lost_checkpoint([SAVED, row])
    assert said is None if found is None else said is not None and found in said


def test_two_ends_that_differ_in_one_place_are_told_apart() -> None:
    rows = [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25}]
    end = End("weights", "state", rows)
    assert end.difference(End("weights", "state", [dict(row) for row in rows])) is None
    others = [End("others", "state", rows), End("weights", "another", rows), End("weights", "state", rows[:1])]
    others.append(End("weights", "state", [rows[0], {"step": 2, "loss": 0.125}]))
    assert all(end.difference(other) for other in others)
