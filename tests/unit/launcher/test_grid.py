"""Axes become points whose names are their values, all of them or some by chance; what is no axis is one line."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.grid import MAX_NAME, chosen, expand
from launcher.space import Axis, Range, axis, draw, draws, split
from trainer.config.strict_yaml import scalar
from trainer.errors import ConfigError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
VALUES = st.lists(st.text(min_size=1, max_size=40), min_size=1, max_size=4, unique=True)


@pytest.mark.parametrize(
    ("text", "key", "values"),
    [
        ("optimizer.lr=0.1", "optimizer.lr", ("0.1",)),
        ("optimizer.lr=0.1, 5e-2,1", "optimizer.lr", ("0.1", "5e-2", "1")),
        ("freeze=[],[{match: a.*, until: 2}]", "freeze", ("[]", "[{match: a.*, until: 2}]")),
        ("""run.note='a, b',"c, d",it's""", "run.note", ("'a, b'", '"c, d"', "it's")),
    ],
)
def test_values_are_what_stands_between_commas_that_are_in_no_bracket_and_no_quotes(text: str, key: str, values: tuple[str, ...]) -> None:
    assert axis(text) == Axis(key, values)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lr", "must be section.key=value,value"),
        ("=1,2", "must be section.key=value,value"),
        ("a b=1,2", "must be section.key=value,value"),
        ("seed=", "a value is missing; write null for none"),
        ("seed=1,,2", "a value is missing"),
        ("seed=1,2,1", "1 stands there twice"),
        ("optimizer.lr=lin(1,2)", "no range is called lin"),
        ("optimizer.lr=log(1)", "must be log(a,b), two numbers"),
        ("optimizer.lr=log(a,b)", "must be log(a,b), two numbers"),
        ("optimizer.lr=log(0,1)", "numbers greater than 0"),
        ("optimizer.lr=uniform(2,1)", "less than the second"),
        ("optimizer.lr=uniform(0,inf)", "less than the second"),
        ("optimizer.lr=uniform(0,1e-320)", "too close together"),
        ("seed=int(0.5,3)", "whole numbers"),
        ("run.name=a,b", "--name names the sweep"),
        ("run.root=a,b", "run.root is what tells the points apart"),
    ],
)
def test_what_is_no_axis_is_refused_in_one_line(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        axis(text)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_key_has_one_axis() -> None:
    with pytest.raises(ConfigError, match="stands there twice; put all its values into one"):
        expand([axis("seed=1"), axis("seed=2")], "c")


def test_a_range_is_drawn_from_and_not_gone_through() -> None:
    with pytest.raises(ConfigError, match="how many values are to be drawn from it"):
        expand([axis("seed=int(0,9)")], "c")
    with pytest.raises(ConfigError, match="stands there twice"):
        chosen([axis("seed=int(0,9)"), axis("seed=1,2")], "c", 0, 3)


def test_names_tell_the_values_and_the_last_axis_changes_first() -> None:
    points = expand([axis("optimizer.lr=0.1,0.05"), axis("model.width=8,16")], "digits")
    assert [point.name for point in points] == [
        "digits-lr0.1-width8",
        "digits-lr0.1-width16",
        "digits-lr0.05-width8",
        "digits-lr0.05-width16",
    ]
    assert points[0].overrides == ("optimizer.lr=0.1", "model.width=8", "run.name=digits-lr0.1-width8")


def test_two_keys_with_the_same_last_word_are_told_apart() -> None:
    (point,) = expand([axis("optimizer.target=sgd"), axis("model.target=mlp")], "c")
    assert point.name == "c-optimizer_targetsgd-model_targetmlp"


def test_a_point_keeps_its_name_when_the_grid_grows() -> None:
    before = {point.name for point in expand([axis("seed=1,2")], "c")}
    assert before < {point.name for point in expand([axis("seed=0,1,2,3")], "c")}


@given(st.lists(VALUES, min_size=1, max_size=3))
def test_every_point_has_a_name_of_its_own_that_can_name_a_run(grids: list[list[str]]) -> None:
    axes = [Axis(f"section.key{number}", tuple(values)) for number, values in enumerate(grids)]
    names = [point.name for point in expand(axes, "c")]
    assert len(set(names)) == len(names)
    assert all(NAME.fullmatch(name) and len(name) <= MAX_NAME for name in names)


@given(st.text(alphabet="a,'\"[]{} :"))
def test_nothing_is_lost_between_the_commas(text: str) -> None:
    assert ",".join(split(text)) == text


FLOATS = st.floats(-1e12, 1e12).filter(lambda value: value == 0 or abs(value) > 1e-12)
SPANS = st.tuples(FLOATS, FLOATS).filter(lambda pair: pair[0] < pair[1] and pair[1] - pair[0] > 1e-9 * max(map(abs, pair)))
RANGES = st.one_of(
    SPANS.map(lambda pair: Range("a.b", "uniform", *pair)),
    SPANS.filter(lambda pair: pair[0] > 0).map(lambda pair: Range("a.b", "log", *pair)),
    st.tuples(st.integers(-1000, 1000), st.integers(1, 1000)).map(lambda pair: Range("a.b", "int", pair[0], pair[0] + pair[1])),
)
SEEDS = st.integers(-(2**40), 2**40)


@given(RANGES, SEEDS, st.integers(0, 10**6))
def test_what_is_drawn_lies_in_the_range_and_is_read_as_the_number_that_is_meant(one: Range, seed: int, number: int) -> None:
    ((key, text),) = draw([one], seed, number)
    value = scalar(text)
    assert (key, type(value)) == ("a.b", int if one.kind == "int" else float)
    assert one.low <= float(text) <= one.high
    assert text != "-0.0"


@given(st.lists(RANGES, min_size=1, max_size=3), SEEDS, st.integers(1, 30), st.integers(1, 30))
def test_more_draws_keep_the_first_ones_and_no_point_comes_twice(ranges: list[Range], seed: int, few: int, more: int) -> None:
    axes = [Range(f"k{number}", one.kind, one.low, one.high) for number, one in enumerate(ranges)]
    first, longer = draws(axes, seed, few), draws(axes, seed, few + more)
    assert longer[: len(first)] == first
    assert len(set(longer)) == len(longer)
    assert first == draws(axes, seed, few)


@given(RANGES, SEEDS, st.integers(0, 1000))
def test_a_key_is_drawn_alike_whatever_the_other_keys_are(one: Range, seed: int, number: int) -> None:
    alone, beside = draw([one], seed, number), draw([Axis("seed", ("1", "2")), one], seed, number)
    assert beside[1:] == alone


def test_chance_is_even_and_another_seed_draws_other_points() -> None:
    axes = [axis("a=x,y,z"), axis("b=log(1e-4,1)"), axis("c=uniform(0,1)"), axis("d=int(1,4)")]
    points = [dict(draw(axes, 0, number)) for number in range(3000)]
    assert all(900 < sum(point["a"] == word for point in points) < 1100 for word in "xyz")
    assert all(650 < sum(point["d"] == word for point in points) < 850 for word in "1234")
    assert 1400 < sum(float(point["b"]) < 1e-2 for point in points) < 1600
    assert 1400 < sum(float(point["c"]) < 0.5 for point in points) < 1600
    assert sum(draw(axes, 1, number) == draw(axes, 0, number) for number in range(100)) < 3


def test_draws_stay_the_same_from_version_to_version() -> None:
    points = chosen([axis("optimizer.lr=log(1e-4,1)"), axis("seed=0,1")], "digits", 0, 3)
    assert [point.name for point in points] == ["digits-lr0.326-seed0", "digits-lr0.0035-seed0", "digits-lr0.0327-seed0"]


@given(RANGES, SEEDS)
def test_names_of_drawn_points_are_ordinary(one: Range, seed: int) -> None:
    names = [point.name for point in chosen([one], "c", seed, 20)]
    assert len(set(names)) == len(names)
    assert all(NAME.fullmatch(name) for name in names)
