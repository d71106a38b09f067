"""Small curves of characters. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
"""The bits of a braille character's dots: left and right column, from the top."""
ASCII = "_.-~=*^"


def columns_of(values: Sequence[float], count: int) -> list[tuple[float, float]]:
    """The least and the greatest value in each of so many columns; between fewer values lie straight lines."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite or count < 1:
        return []
    if len(finite) < count:
        places = (index * (len(finite) - 1) / max(1, count - 1) for index in range(count))
        return [(value, value) for value in (_between(finite, place) for place in places)]
    parts = (finite[index * len(finite) // count : (index + 1) * len(finite) // count] for index in range(count))
    return [(min(part), max(part)) for part in parts]


def _between(values: Sequence[float], place: float) -> float:
    first = min(int(place), len(values) - 1)
    second = min(first + 1, len(values) - 1)
    return (1 - place + first) * values[first] + (place - first) * values[second]


def braille(values: Sequence[float], width: int, height: int) -> list[str]:
    """A curve in braille characters, `width` wide and `height` high; nothing finite gives blank lines."""
    columns = columns_of(values, 2 * width)
    cells = [[0] * width for _ in range(height)]
    if columns:
        low, high = min(least for least, _ in columns), max(most for _, most in columns)
        rows = 4 * height - 1
        before: int | None = None
        for x, pair in enumerate(columns):
            bottom, top = (_row(value, low, high, rows) for value in pair)
            if before is not None:  # the curve hangs together
                bottom, top = (min(bottom, before + 1), max(top, before - 1)) if bottom > before or top < before else (bottom, top)
            before = _row(pair[0] / 2 + pair[1] / 2, low, high, rows)
            for y in range(bottom, top + 1):
                up = rows - y
                cells[up // 4][x // 2] |= DOTS[x % 2][up % 4]
    return ["".join(chr(0x2800 + bits) for bits in row) for row in cells]


def _row(value: float, low: float, high: float, rows: int) -> int:
    # Halves: a difference of the greatest numbers there are would be infinite.
    return round(rows * ((value / 2 - low / 2) / (high / 2 - low / 2))) if high / 2 > low / 2 else rows // 2


def plain(values: Sequence[float], width: int) -> str:
    """The same in one line of ASCII."""
    columns = columns_of(values, width)
    if not columns:
        return ""
    means = [least / 2 + most / 2 for least, most in columns]
    low, high = min(means), max(means)
    return "".join(ASCII[_row(value, low, high, len(ASCII) - 1)] for value in means)
