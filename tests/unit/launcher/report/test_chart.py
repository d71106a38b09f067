"""Curves, axes and figures, as numbers and as text."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.report.chart import Kind, Line, chart, path
from launcher.report.scale import SIDE, Axis, axis_for, log_ticks, round_ticks, tight
from launcher.report.series import Series, split_at_gaps, thin
from launcher.report.words import duration, figure, number, size, tick

finite = st.floats(-1e12, 1e12)


def series(values: list[float]) -> Series:
    found = Series()
    for step, value in enumerate(values):
        found.add(step, value)
    return found


@given(st.lists(finite | st.just(math.nan), max_size=300), st.integers(1, 20))
def test_thinning_keeps_the_ends_the_extremes_the_order_and_the_holes(values: list[float], buckets: int) -> None:
    found = thin(series(values), buckets)
    xs = [x for x, _ in found]
    kept = [y for _, y in found if y == y]
    whole = [value for value in values if value == value]
    assert xs == sorted(xs)
    assert len(found) <= max(2 * buckets, 3 * buckets + 2)
    assert (not whole) == (not kept)
    if whole:
        assert (min(kept), max(kept)) == (min(whole), max(whole))
        assert (xs[0], xs[-1]) == (0, len(values) - 1)
    assert all(y != y or values[int(x)] == y for x, y in found)


def test_what_is_no_finite_number_is_a_hole() -> None:
    found = Series()
    for value in (1, None, True, "x", math.inf, 2.5):
        found.add(len(found), value)
    assert [value == value for value in found.y] == [True, False, False, False, False, True]
    assert found.last() == 2.5
    axis = Axis(0, 10)
    assert path(list(zip(found.x, found.y, strict=True)), axis, axis).count("M") == 2


@given(st.lists(finite, min_size=1, max_size=50), st.booleans())
def test_every_value_has_its_place_on_the_axis_and_ticks_are_within_it(values: list[float], zero: bool) -> None:
    axis = axis_for(values, zero=zero)
    assert all(-1e-6 <= axis.place(value) <= SIDE + 1e-6 for value in values)
    assert all(-1e-3 <= axis.place(value) <= SIDE + 1e-3 for value in axis.ticks())
    assert len(axis.ticks()) <= 12


@given(st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=50))
def test_so_it_is_with_logarithms(values: list[float]) -> None:
    axis = axis_for(values, log=True)
    assert all(-1e-6 <= axis.place(value) <= SIDE + 1e-6 for value in values)
    assert len(axis.ticks()) >= 1 or axis.high / axis.low < 2


def test_ticks_are_round() -> None:
    assert round_ticks(0, 1, 4) == [0, 0.25, 0.5, 0.75, 1]
    assert round_ticks(3, 97, 5) == [20, 40, 60, 80]
    assert log_ticks(0.008, 3) == [0.01, 0.1, 1]
    assert Axis(0, 320 * 2**20).ticks(unit=2**20) == [n * 2**20 for n in (0, 100, 200, 300)]
    assert tight([5.0]) == Axis(4.5, 5.5)


def test_a_pause_is_a_hole_in_the_curve() -> None:
    points = [(0.0, 1.0), (1.0, 1.0), (2.0, 1.0), (100.0, 1.0), (101.0, 1.0)]
    assert [y == y for _, y in split_at_gaps(points)] == [True, True, True, False, True, True]
    assert split_at_gaps(points, least=200.0) == points


def test_a_chart_has_a_title_words_curves_and_numbers() -> None:
    lines = [Line("a & b", [(0, 0.5), (1, math.nan), (2, 0.75)], 0), Line("nothing", [(0, math.nan)], 1)]
    made = chart("Accuracy <1>", lines, Kind("share"))
    assert "<title>Accuracy &lt;1&gt;</title>" in made
    assert "a &amp; b: from 50.00 % at step 0 to 75.00 % at step 2, least 50.00 %, greatest 75.00 %." in made
    assert "nothing" not in made
    (drawn,) = re.findall(r'<path d="([^"]*)" class="line s0" data-line="0"', made)
    assert drawn.count("M") == 2
    assert "<table" in made
    assert chart("x", [Line("nothing", [])]) == ""


@given(st.lists(finite, min_size=1, max_size=30))
def test_a_chart_of_anything_has_no_nan_in_its_drawing(values: list[float]) -> None:
    made = chart("x", [Line("y", list(enumerate(values)))], logs=True)
    assert not re.search(r'(d|style)="[^"]*(nan|inf)', made)


@pytest.mark.parametrize("logs", [False, True])
def test_from_the_places_of_a_long_curve_its_steps_come_back_exactly_and_its_values_in_four_digits(logs: bool) -> None:
    points = [(float(step), 5.0 / (1 + step / 1e4)) for step in range(7, 1_000_008, 1399)]
    made = chart("x", [Line("y", points)], logs=logs)
    ((x0, x1), (y0, y1)) = (map(float, re.findall(rf'data-{axis}="(\S+) (\S+) ', made)[0]) for axis in "xy")
    (drawn,) = re.findall(r'<path d="M([^"]*)" class="line s0" data-line', made)
    places = [tuple(map(float, part.split(" "))) for part in drawn.split("L")]
    assert [round(x0 + x / SIDE * (x1 - x0)) for x, _ in places] == [x for x, _ in points]
    shares = [1 - y / SIDE for _, y in places]
    told = [y0 * (y1 / y0) ** share if logs else y0 + share * (y1 - y0) for share in shares]
    assert told == pytest.approx([y for _, y in points], rel=1e-4)
    assert ("logarithmic" in made) == logs


def test_losses_that_span_decades_are_drawn_on_a_logarithmic_scale_and_it_is_said() -> None:
    lines = [Line("loss", [(0, 2.3), (1, 0.001)])]
    assert "logarithmic scale" in chart("Loss", lines, logs=True)
    assert "logarithmic scale" not in chart("Loss", lines)
    assert "logarithmic scale" not in chart("Loss", [Line("loss", [(0, 2.3), (1, 0.0)])], logs=True)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (figure("accuracy", 0.99259), "99.26 %"),
        (figure("loss", None), "–"),
        (figure("loss", True), "–"),
        (figure("loss", math.nan), "–"),
        (number(1262), "1,262"),
        (number(0.0264332), "0.02643"),
        (number(2e-7), "2e-07"),
        (duration(3.14), "3.1 s"),
        (duration(59.97), "60 s"),
        (duration(185), "3 min 05 s"),
        (duration(7650), "2 h 07 min"),
        (duration(None), "–"),
        (size(320 * 2**20), "320 MiB"),
        (size(13.2 * 2**30), "13.2 GiB"),
        (tick(0.25, 0.25), "0.25"),
        (tick(1500, 500), "1,500"),
        (tick(2e-7, 1e-7), "2e-7"),
    ],
)
def test_numbers_are_told_as_people_read_them(said: str, expected: str) -> None:
    assert said == expected
