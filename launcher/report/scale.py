"""From values to places on an axis. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

SIDE = 1000.0
"""A plot is so many units wide and high; the page stretches it."""


@dataclass(frozen=True)
class Axis:
    """A range of values, from 0 to `SIDE`.

    Args:
        low: the value at 0.
        high: the value at `SIDE`.
        log: places go with the logarithm.
    """

    low: float
    high: float
    log: bool = False

    def place(self, value: float) -> float:
        """Where a value lies."""
        if self.log:
            value, low, high = (math.log10(max(number, 1e-300)) for number in (value, self.low, self.high))
        else:
            low, high = self.low, self.high
        return SIDE * (value - low) / (high - low)

    def ticks(self, about: int = 4, unit: float = 1.0) -> list[float]:
        """Values within it that are round in a unit."""
        if self.log:
            return log_ticks(self.low, self.high)
        return [unit * value for value in round_ticks(self.low / unit, self.high / unit, about)]


def axis_for(values: Iterable[float], *, log: bool = False, zero: bool = False, top: float | None = None) -> Axis:
    """An axis on which all finite values have their place, with some air.

    Args:
        values: what is to be shown.
        log: take logarithms; all values must be positive.
        zero: begin at zero, unless a value is below.
        top: end there at the most, such as at 1 for shares.
    """
    finite = [value for value in values if math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    if log:
        air = (high / low) ** 0.05 if high > low else 2.0
        return Axis(low / air, high * air, True)
    if zero and low >= 0:
        low = 0.0
    if not high - low > 1e-12 * max(abs(low), abs(high), 1e-300):
        half = abs(high) * 0.1 or 1.0
        return Axis(0.0 if zero and low >= 0 else low - half, high + half)
    air = 0.06 * (high - low)
    high += air
    if top is not None and high - air <= top:
        high = min(high, top + 0.02 * (top - low))
    return Axis(low if zero and low == 0 else low - air, high)


def tight(values: Sequence[float]) -> Axis:
    """An axis from the least value to the greatest."""
    finite = [value for value in values if math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    return Axis(low, high) if high > low else Axis(low - 0.5, high + 0.5)


def round_ticks(low: float, high: float, about: int) -> list[float]:
    """Multiples of 1, 2, 2.5 or 5 of a power of ten within a range."""
    rough = (high - low) / max(1, about)
    if not math.isfinite(rough) or rough <= 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999), 10 * power)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, min(last, first + 50) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten within a range, with halves of them where there are few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    every = max(1, len(powers) // 6)
    found = [10.0**power for power in powers if power % every == 0 and low <= 10.0**power <= high]
    if len(found) >= 3:
        return found
    factors = (1, 2, 5) if len(found) >= 1 else (1, 2, 3, 5, 7)
    return [factor * 10.0**power for power in powers for factor in factors if low <= factor * 10.0**power <= high]
