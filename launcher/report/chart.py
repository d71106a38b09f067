"""Curves as a figure: a drawing that stretches with the page, axes in the page's own type, and the numbers as a table. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from launcher.report.markup import Markup, folded, join, table, tag
from launcher.report.scale import SIDE, Axis, axis_for, tight
from launcher.report.series import Point
from launcher.report.words import SHARES, duration, number, size, tick

STYLES = 8
MOST_DECIMALS = 7


@dataclass(frozen=True)
class Line:
    """One curve.

    Args:
        name: in the legend.
        points: with NaN where there is a hole.
        style: its colour and its dashes, 0 … 7; None: one of many that look alike.
        faint: drawn thin, behind the others.
        dots: each point is marked as well.
        last: the newest value, which the legend tells.
    """

    name: str
    points: Sequence[Point]
    style: int | None = 0
    faint: bool = False
    dots: bool = False
    last: float | None = None


@dataclass(frozen=True)
class Kind:
    """How values are told: ``number``, ``share``, ``percent``, ``bytes``; and those of x: ``step``, ``seconds``."""

    y: str = "number"
    x: str = "step"


PLAIN = Kind()


def kind_of(figure: str) -> Kind:
    """The kind that a metric's name asks for."""
    return Kind("share" if figure.endswith(SHARES) else "number")


def say(kind: str, value: float) -> str:
    """A value of a kind."""
    if not math.isfinite(value):
        return "–"
    if kind == "share":
        return f"{100 * value:.2f} %"
    if kind == "percent":
        return f"{value:.0f} %"
    return {"bytes": size, "seconds": duration}.get(kind, number)(value)


def chart(title: str, lines: Sequence[Line], kind: Kind = PLAIN, *, about: str = "", zero: bool = False, logs: bool = False) -> Markup:
    """A figure with a title, a legend, the curves, their axes, and their numbers on request.

    Args:
        title: the figure's.
        lines: at least one; one without points is left out.
        kind: how values are told.
        about: what else the caption says.
        zero: the axis begins at zero.
        logs: it may be logarithmic, and is if the values are many times each other.
    """
    lines = [line for line in lines if any(math.isfinite(y) for _, y in line.points)]
    if not lines:
        return Markup("")
    values = [y for line in lines for _, y in line.points if math.isfinite(y)]
    log = logs and min(values) > 0 and 50 < max(values) / min(values) < 1e30
    y_axis = axis_for(values, log=log, zero=zero, top=1.0 if kind.y == "share" else None)
    x_axis = tight([x for line in lines for x, _ in line.points])
    notes = "; ".join(filter(None, (about, "logarithmic scale" if log else "")))
    plot = _plot(title, lines, kind, x_axis, y_axis)
    caption = tag("figcaption", tag("h3", title), tag("p", notes, class_="note") if notes else None)
    return tag("figure", caption, _legend(lines, kind), plot, _numbers(title, lines, kind), class_="chart")


def _legend(lines: Sequence[Line], kind: Kind) -> Markup:
    entries = []
    for number_, line in enumerate(lines):
        last = line.last if line.last is not None else next((y for _, y in reversed(line.points) if math.isfinite(y)), math.nan)
        entry = tag("span", _swatch(line), tag("span", line.name), tag("b", say(kind.y, last)), class_="key", data_line=number_)
        entries.append(tag("li", entry))
    return tag("ul", *entries, class_="legend", aria_label="Legend, with the newest values")


def _swatch(line: Line) -> Markup:
    strokes = [tag("path", d="M1 5H31", class_=_classes(line))]
    if line.dots:
        strokes.append(tag("path", d="M16 5h0", class_=f"dots {_ink(line)}"))
    return tag("svg", *strokes, viewBox_="0 0 32 10", width="32", height="10", aria_hidden="true", class_="swatch")


def _ink(line: Line) -> str:
    return "rest" if line.style is None else f"s{line.style % STYLES}"


def _classes(line: Line) -> str:
    return f"line {_ink(line)}" + (" faint" if line.faint else "")


def _plot(title: str, lines: Sequence[Line], kind: Kind, x_axis: Axis, y_axis: Axis) -> Markup:
    y_ticks, x_ticks = y_axis.ticks(unit=_unit(kind.y, y_axis.high)), x_axis.ticks(5)
    grid = "".join(f"M0 {place_of(SIDE - y_axis.place(value))}H{SIDE:g}" for value in y_ticks)
    drawn = [tag("path", d=grid, class_="grid", vector_effect="non-scaling-stroke")]
    for number_, line in sorted(enumerate(lines), key=lambda pair: not pair[1].faint):
        drawn.append(
            tag("path", d=path(line.points, x_axis, y_axis), class_=_classes(line), data_line=number_, vector_effect="non-scaling-stroke")
        )
        if line.dots:
            dots = dots_path(line.points, x_axis, y_axis)
            drawn.append(tag("path", d=dots, class_=f"dots {_ink(line)}", data_line=number_, vector_effect="non-scaling-stroke"))
    drawing = tag(
        "svg",
        tag("title", title),
        tag("desc", describe(lines, kind)),
        *drawn,
        viewBox_=f"0 0 {SIDE:g} {SIDE:g}",
        preserveAspectRatio="none",
        role="img",
        aria_label=title,
    )
    area = tag(
        "div",
        drawing,
        class_="area",
        data_x=f"{x_axis.low!r} {x_axis.high!r} {kind.x}",
        data_y=f"{y_axis.low!r} {y_axis.high!r} {kind.y} {'log' if y_axis.log else ''}".strip(),
        data_names="\n".join(line.name for line in lines),
    )
    step = y_ticks[1] - y_ticks[0] if len(y_ticks) > 1 and not y_axis.log else 0.0
    ys = [tag("span", y_label(kind.y, value, step), style=f"bottom:{y_axis.place(value) / SIDE:.2%}") for value in y_ticks]
    gap = x_ticks[1] - x_ticks[0] if len(x_ticks) > 1 else 0.0
    labels = [_x_label(kind.x, value, gap) for value in x_ticks]
    if labels and kind.x != "seconds":  # which say it themselves
        labels[-1] = f"{kind.x} {labels[-1]}"
    xs = [tag("span", label, style=f"left:{x_axis.place(value) / SIDE:.2%}") for label, value in zip(labels, x_ticks, strict=True)]
    widest = max((len(y_label(kind.y, value, step)) for value in y_ticks), default=3)
    return tag(
        "div",
        tag("div", *ys, class_="ys", aria_hidden="true", style=f"width:{widest + 1}ch"),
        area,
        tag("div", *xs, class_="xs", aria_hidden="true"),
        class_="plot",
    )


def _unit(kind: str, high: float) -> float:
    """What round numbers are round in."""
    return 1024.0 ** max(0, min(3, math.floor(math.log(high, 1024)))) if kind == "bytes" and high > 1 else 1.0


def y_label(kind: str, value: float, step: float) -> str:
    """A value on the upright axis, with the digits that its neighbours differ in."""
    if kind == "share":
        return f"{tick(100 * value, 100 * step)} %"
    if kind == "percent":
        return f"{value:g} %"
    if kind == "bytes":
        return size(value)
    return tick(value, step or value)


def _x_label(kind: str, value: float, step: float) -> str:
    return duration(value) if kind == "seconds" and value else tick(value, step or 1)


def path(points: Sequence[Point], x_axis: Axis, y_axis: Axis) -> str:
    """A curve's path; it is taken up again after each hole."""
    (across, up), parts, pen = _decimals(points, x_axis, y_axis), [], "M"
    for x, y in points:
        if not math.isfinite(y):
            pen = "M"
            continue
        parts.append(f"{pen}{place_of(x_axis.place(x), across)} {place_of(SIDE - y_axis.place(y), up)}")
        pen = "L"
    return "".join(parts)


def dots_path(points: Sequence[Point], x_axis: Axis, y_axis: Axis) -> str:
    """A dot at each point: strokes of no length with round ends stay round however the drawing is stretched."""
    finite = ((x, y) for x, y in points if math.isfinite(y))
    return "".join(f"M{place_of(x_axis.place(x))} {place_of(SIDE - y_axis.place(y))}h0" for x, y in finite)


def _decimals(points: Sequence[Point], x_axis: Axis, y_axis: Axis) -> tuple[int, int]:
    """How many a curve's places have: the page tells values from them, whole steps exactly and of others four digits."""
    least = min((abs(y) for _, y in points if y and math.isfinite(y)), default=1.0)
    return _enough(x_axis, 1.0), 3 if y_axis.log else _enough(y_axis, 1e-4 * least)


def _enough(axis: Axis, unit: float) -> int:
    """So many decimals that less than half a unit is lost; no fewer than can be seen, and no more than seven."""
    place = SIDE * unit / (axis.high - axis.low)
    return min(MOST_DECIMALS, max(2, 1 - math.ceil(math.log10(place)))) if 0 < place < math.inf else 2


def place_of(value: float, decimals: int = 2) -> str:
    """A number in a drawing."""
    return f"{value:.{decimals}f}".rstrip("0").rstrip(".") if math.isfinite(value) else "0"


def describe(lines: Sequence[Line], kind: Kind) -> str:
    """The curves in words."""
    said = []
    for line in lines:
        finite = [(x, y) for x, y in line.points if math.isfinite(y)]
        (x0, first), (x1, last) = finite[0], finite[-1]
        low, high = min(y for _, y in finite), max(y for _, y in finite)
        span = f"from {say(kind.y, first)} at {kind.x} {say(kind.x, x0)} to {say(kind.y, last)} at {kind.x} {say(kind.x, x1)}"
        said.append(f"{line.name}: {span}, least {say(kind.y, low)}, greatest {say(kind.y, high)}.")
    return " ".join(said)


def _numbers(title: str, lines: Sequence[Line], kind: Kind) -> Markup:
    rows = []
    for line in lines:
        finite = [(x, y) for x, y in line.points if math.isfinite(y)]
        low, high = min(finite, key=lambda point: point[1]), max(finite, key=lambda point: point[1])
        cells = [(finite[0]), low, high, finite[-1]]
        rows.append([line.name, *(join([say(kind.y, y), tag("small", f" at {say(kind.x, x)}")]) for x, y in cells)])
    return folded("Numbers", table(f"{title}: values by {kind.x}", ["curve", "first", "least", "greatest", "last"], rows))
