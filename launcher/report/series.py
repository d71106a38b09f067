"""Curves of any length, thinned to what a screen can show. Pure."""

from __future__ import annotations

import itertools
import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

Point = tuple[float, float]
BUCKETS = 360


@dataclass
class Series:
    """A curve: NaN in ``y`` is a hole.

    Args:
        x: rising.
        y: as many.
        holes: whether there are any.
    """

    x: array[float] = field(default_factory=lambda: array("d"))
    y: array[float] = field(default_factory=lambda: array("d"))
    holes: bool = False

    def add(self, x: float, value: object) -> None:
        """Append a point; what is no finite number is a hole."""
        good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        self.x.append(x)
        self.y.append(float(value) if good else math.nan)  # type: ignore[arg-type]
        self.holes = self.holes or not good

    def __len__(self) -> int:
        return len(self.x)

    def last(self) -> float | None:
        """The newest value that is one."""
        return next((value for value in reversed(self.y) if value == value), None)


def thin(series: Series, buckets: int = BUCKETS) -> list[Point]:
    """At most two points for each bucket, its least and its greatest in their order: no peak is lost.

    The first and the last point stay; a bucket with a hole gets a point with NaN.
    """
    count = len(series)
    if count <= 2 * buckets:
        return list(zip(series.x, series.y, strict=True))
    found: list[Point] = [(series.x[0], series.y[0])]
    for bucket in range(buckets):
        start, stop = 1 + (count - 2) * bucket // buckets, 1 + (count - 2) * (bucket + 1) // buckets
        found.extend(_extremes(series, start, stop))
    found.append((series.x[-1], series.y[-1]))
    return found


def _extremes(series: Series, start: int, stop: int) -> list[Point]:
    values = series.y[start:stop]
    if series.holes:
        finite = array("d", (value for value in values if value == value))
        if not finite:
            return [(series.x[start], math.nan)]
        torn = len(finite) < len(values)
    else:
        finite, torn = values, False
    places = sorted({start + values.index(min(finite)), start + values.index(max(finite))})
    found = [(series.x[place], series.y[place]) for place in places]
    if torn:
        hole = next(place for place, value in enumerate(values, start) if value != value)
        found = sorted([*found, (series.x[hole], math.nan)], key=lambda point: point[0])
    return found


def smooth_rate(times: Sequence[float], steps: Sequence[float]) -> list[Point]:
    """Steps for each second between neighbouring points, at the later one."""
    pairs = zip(zip(times, steps, strict=True), zip(times[1:], steps[1:], strict=True), strict=False)
    return [(step, (step - before) / (now - then)) for (then, before), (now, step) in pairs if now > then and step > before]


def split_at_gaps(points: Sequence[Point], factor: float = 8.0, least: float = 0.0) -> list[Point]:
    """The points with a hole wherever the distance in x is many times the usual one."""
    if len(points) < 3:
        return list(points)
    distances = sorted(b[0] - a[0] for a, b in itertools.pairwise(points))
    limit = max(least, factor * distances[len(distances) // 2])
    found = [points[0]]
    for before, point in itertools.pairwise(points):
        if point[0] - before[0] > limit:
            found.append((point[0], math.nan))
        found.append(point)
    return found
