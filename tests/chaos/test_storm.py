"""A small storm: kills, signals, crowds and calm; the whole one is ``make chaos``."""

from __future__ import annotations

import pytest

from tests.chaos.__main__ import SCENARIOS, main

SEED = 3


@pytest.mark.parametrize("name", ["storm", "no_tree", "kills", "signals", "crowd", "payload", "healthy"])
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
