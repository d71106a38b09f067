"""What came of each value of a key: a point for each run, over numbers or over words. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from launcher.report.chart import STYLES, kind_of, place_of, say, y_label
from launcher.report.markup import Markup, tag
from launcher.report.scale import SIDE, Axis, axis_for, log_ticks
from launcher.report.words import tick

FEW = 8


@dataclass(frozen=True)
class Spot:
    """One run.

    Args:
        name: the run's.
        value: of the key, as it was typed.
        y: what came of it.
        group: such as how the run stands; each has a colour and a line in the legend.
    """

    name: str
    value: str
    y: float
    group: str


def scatter(key: str, metric: str, spots: Sequence[Spot]) -> Markup:
    """A figure of some runs' results over one key; each point tells its run under the pointer.

    Args:
        key: of the config.
        metric: what came of it.
        spots: in any order.
    """
    kind = kind_of(metric).y
    places, marks, log = _places([spot.value for spot in spots])
    y_axis = axis_for([spot.y for spot in spots], top=1.0 if kind == "share" else None)
    groups = list(dict.fromkeys(spot.group for spot in spots))
    drawn = [tag("path", d=_grid(y_axis), class_="grid", vector_effect="non-scaling-stroke")]
    for spot, x in zip(spots, places, strict=True):
        at = f"M{place_of(x)} {place_of(SIDE - y_axis.place(spot.y))}h0"
        told = tag("title", f"{spot.name}: {key} {spot.value}, {metric} {say(kind, spot.y)}")
        style = f"dots s{groups.index(spot.group) % STYLES}"
        drawn.append(tag("path", told, d=at, class_=style, vector_effect="non-scaling-stroke"))
    title = f"{metric} by {key}"
    words = f"{len(spots)} runs; the table above has the numbers."
    drawing = tag(
        "svg",
        tag("title", title),
        tag("desc", words),
        *drawn,
        viewBox_=f"0 0 {SIDE:g} {SIDE:g}",
        preserveAspectRatio="none",
        role="img",
        aria_label=title,
    )
    note = tag("p", "logarithmic scale", class_="note") if log else None
    return tag(
        "figure", tag("figcaption", tag("h3", title), note), _legend(groups), _plot(drawing, kind, y_axis, marks), class_="chart scatter"
    )


def _plot(drawing: Markup, kind: str, y_axis: Axis, marks: Sequence[tuple[float, str]]) -> Markup:
    ticks = y_axis.ticks()
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 0.0
    labels = [y_label(kind, value, step) for value in ticks]
    ys = [tag("span", label, style=f"bottom:{y_axis.place(value) / SIDE:.2%}") for value, label in zip(ticks, labels, strict=True)]
    xs = [tag("span", label, style=f"left:{place / SIDE:.2%}") for place, label in marks]
    return tag(
        "div",
        tag("div", *ys, class_="ys", aria_hidden="true", style=f"width:{max(map(len, labels), default=3) + 1}ch"),
        tag("div", drawing, class_="area"),
        tag("div", *xs, class_="xs", aria_hidden="true"),
        class_="plot",
    )


def _legend(groups: Sequence[str]) -> Markup:
    entries = []
    for number, group in enumerate(groups):
        dot = tag("svg", tag("path", d="M8 5h0", class_=f"dots s{number % STYLES}"), viewBox_="0 0 16 10", width="16", height="10")
        entries.append(tag("li", tag("span", dot, tag("span", group), class_="key")))
    return tag("ul", *entries, class_="legend", aria_label="Legend")


def _grid(y_axis: Axis) -> str:
    return "".join(f"M0 {place_of(SIDE - y_axis.place(value))}H{SIDE:g}" for value in y_axis.ticks())


def _places(values: Sequence[str]) -> tuple[list[float], list[tuple[float, str]], bool]:
    """Where each value lies, the axis's labels with their places, and whether it is logarithmic."""
    numbers = [_number(value) for value in values]
    finite = [number for number in numbers if number is not None]
    few = len(set(finite)) <= FEW and all(number.is_integer() for number in finite)
    if len(finite) < len(values) or few:  # words, and a few whole numbers, stand beside one another
        words = (
            sorted(dict.fromkeys(values), key=lambda word: _number(word) or 0.0) if len(finite) == len(values) else [*dict.fromkeys(values)]
        )
        where = {word: SIDE * (number + 0.5) / len(words) for number, word in enumerate(words)}
        shown = words if len(words) <= FEW else [words[0], words[-1]]
        return [where[value] for value in values], [(where[word], word[:24]) for word in shown], False
    log = min(finite) > 0 and 20 < max(finite) / min(finite) < 1e30
    axis = axis_for(finite, log=log)
    marks = [value for value in (log_ticks(axis.low, axis.high) if log else axis.ticks(5)) if axis.low <= value <= axis.high]
    gap = marks[1] - marks[0] if len(marks) > 1 else 0.0
    return [axis.place(value) for value in finite], [(axis.place(mark), tick(mark, mark if log else gap or mark)) for mark in marks], log


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
