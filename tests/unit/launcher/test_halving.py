"""Which runs go on, and which are left out, follows from what their folders say, whenever somebody asks."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.halving import Rung, Seen, next_turn, rungs
from trainer.errors import LOST, TRAINING_FAILED


def shape(ladder: list[Rung]) -> list[tuple[int, int]]:
    return [(rung.epoch, rung.runs) for rung in ladder]


@pytest.mark.parametrize(
    ("points", "epochs", "eta", "every", "expected"),
    [
        (9, 15, 3, 1, [(2, 9), (5, 3), (15, 1)]),
        (27, 27, 3, 1, [(1, 27), (3, 9), (9, 3), (27, 1)]),
        (8, 9, 2, 1, [(2, 8), (3, 4), (5, 2), (9, 1)]),
        (100, 3, 3, 1, [(1, 100), (3, 33)]),
        (9, 15, 3, 4, [(4, 9), (8, 3), (15, 1)]),  # each rung ends with an evaluation
        (9, 4, 2, 4, [(4, 9)]),
        (2, 50, 3, 1, [(50, 2)]),
        (50, 2, 3, 1, [(2, 50)]),
    ],
)
def test_the_rungs(points: int, epochs: int, eta: int, every: int, expected: list[tuple[int, int]]) -> None:
    assert shape(rungs(points, epochs, eta, every)) == expected


@given(st.integers(1, 300), st.integers(1, 300), st.integers(2, 5), st.integers(1, 7))
def test_from_rung_to_rung_epochs_grow_and_runs_shrink_and_the_last_one_is_whole(points: int, epochs: int, eta: int, every: int) -> None:
    ladder = rungs(points, epochs, eta, every)
    assert ladder[0].runs == points
    assert ladder[-1].epoch == epochs
    assert [rung.last for rung in ladder] == [False] * (len(ladder) - 1) + [True]
    assert all(rung.epoch % every == 0 for rung in ladder[:-1])
    for before, after in itertools.pairwise(ladder):
        assert before.epoch < after.epoch
        assert 1 <= after.runs == max(1, before.runs // eta)


LADDER = rungs(4, 4, 2)  # (1, 4), (2, 2), (4, 1)
DONE_ONE = [Seen({1: value}, saved=1) for value in (0.3, 0.9, 0.5, 0.9)]


def test_a_rung_is_finished_before_the_next_one_begins() -> None:
    assert shape(LADDER) == [(1, 4), (2, 2), (4, 1)]
    assert next_turn([Seen()] * 4, LADDER, 2, True).todo == (0, 1, 2, 3)
    assert next_turn([*DONE_ONE[:3], Seen()], LADDER, 2, True).todo == (3,)
    assert next_turn([*DONE_ONE[:3], Seen({1: 0.9})], LADDER, 2, True).todo == (3,), "its checkpoint is not written yet"


def test_the_best_go_on_and_of_two_alike_the_first() -> None:
    turn = next_turn(DONE_ONE, LADDER, 2, True)
    assert (turn.rung, turn.todo, sorted(turn.out)) == (1, (1, 3), [0, 2])
    assert next_turn(DONE_ONE, LADDER, 2, False).todo == (0, 2)
    further = [replace(one, values={**one.values, 2: 0.95}, saved=2) if one.saved and one.values[1] == 0.9 else one for one in DONE_ONE]
    turn = next_turn(further, LADDER, 2, True)
    assert (turn.rung, turn.todo) == (2, (1,))
    assert "not among the best 1 at epoch 2" in turn.out[3]
    ended = [replace(one, finished=number == 1) for number, one in enumerate(further)]
    turn = next_turn(ended, LADDER, 2, True)
    assert (turn.rung, turn.entrants, turn.todo) == (3, (1,), ())


def test_it_is_the_best_evaluation_up_to_the_rungs_epoch_that_counts() -> None:
    early = [Seen({1: 0.1}, saved=1), Seen({1: 0.2, 2: 0.9}, saved=2), Seen({1: 0.8}, saved=1), Seen({1: 0.7}, saved=1)]
    assert next_turn(early, LADDER, 2, True).todo == (2, 3), "what one has reached later is not held against the others"
    peaked = [Seen({1: 0.9, 2: 0.1}, saved=2), Seen({1: 0.8, 2: 0.85}, saved=2), Seen({1: 0.1}, saved=1), Seen({1: 0.1}, saved=1)]
    assert next_turn(peaked, LADDER, 2, True).todo == (0,)


def test_a_point_that_fails_or_is_not_finite_is_out_and_told() -> None:
    bad = [Seen(code=TRAINING_FAILED, failures=1), Seen({1: None}, saved=1), Seen({1: 0.1}, saved=1), Seen({1: 0.2}, saved=1)]
    turn = next_turn(bad, LADDER, 2, True)
    assert turn.todo == (3, 2)
    assert turn.out == {0: "failed with exit code 4", 1: "its metric was not finite at epoch 1"}
    gone = next_turn([Seen(code=TRAINING_FAILED, failures=1)] * 4, LADDER, 2, True)
    assert (gone.todo, gone.entrants, sorted(gone.out)) == ((), (), [0, 1, 2, 3])


def test_what_the_system_took_is_tried_once_more_when_the_command_is_typed_again() -> None:
    lost = [Seen(code=LOST, failures=1), *DONE_ONE[1:]]
    assert next_turn(lost, LADDER, 2, True).todo == (0,)
    assert next_turn(lost, LADDER, 2, True, lost={0}).todo == (1, 3)
    assert next_turn([Seen(code=LOST, failures=2), *DONE_ONE[1:]], LADDER, 2, True).todo == (1, 3)


def test_a_failure_in_a_later_rung_changes_nothing_before_it() -> None:
    failed = [replace(one, code=TRAINING_FAILED, failures=1) if number == 1 else one for number, one in enumerate(DONE_ONE)]
    turn = next_turn(failed, LADDER, 2, True)
    assert (turn.rung, turn.todo) == (1, (3,))
    assert turn.out[1] == "failed with exit code 4"


VALUES = st.one_of(st.none(), st.floats(0, 1))


@given(st.lists(st.lists(VALUES, min_size=9, max_size=9), min_size=1, max_size=30), st.booleans(), st.integers(2, 4))
def test_whatever_comes_out_the_runs_train_no_more_than_the_rungs_say_and_it_ends(
    outcomes: list[list[float | None]], more: bool, eta: int
) -> None:
    ladder = rungs(len(outcomes), 9, eta)
    seen = [Seen()] * len(outcomes)
    turns = 0
    while True:
        turn = next_turn(seen, ladder, eta, more)
        if not turn.todo:
            break
        turns += 1
        rung = ladder[turn.rung]
        assert len(turn.todo) <= rung.runs
        for point in turn.todo:
            values = dict(enumerate(outcomes[point][: rung.epoch], 1))
            seen[point] = Seen(values, saved=rung.epoch, finished=rung.last)
    assert turns <= len(ladder)
    assert next_turn(seen, ladder, eta, more) == turn
    if all(value is not None and math.isfinite(value) for values in outcomes for value in values):
        assert len(turn.entrants) == ladder[-1].runs
