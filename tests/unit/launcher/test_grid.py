"""A grid becomes points whose names are their values; what is no grid is one line."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.grid import MAX_NAME, Axis, axis, expand, split
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
