"""What a sweep chooses from: the values or the range of each key, and draws from them that depend on nothing but their number (pure)."""

from __future__ import annotations

import hashlib
import math
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from trainer.config.strict_yaml import one_line
from trainer.errors import ConfigError

OPTION = "command line: --grid"
KINDS = ("log", "uniform", "int")
STEPS = 1000  # a range is told in at least so many steps, and names stay short
_KEY = re.compile(r"\w[\w-]*(\.\w[\w-]*)*")
_RANGE = re.compile(r"\s*([A-Za-z_]\w*)\s*\((.*)\)\s*", re.DOTALL)
_BRACKETS = {"[": "]", "{": "}"}


@dataclass(frozen=True)
class Axis:
    """One key of the config, and the values that it is to have."""

    key: str
    values: tuple[str, ...]

    def pick(self, number: int) -> str:
        """The value for a random number of 64 bits."""
        return self.values[(number * len(self.values)) >> 64]


@dataclass(frozen=True)
class Range:
    """One key of the config, and what its values are drawn from.

    Args:
        key: of the config.
        kind: ``log`` (evenly in the logarithm), ``uniform`` (evenly) or ``int`` (whole numbers, both ends among them).
        low: the least value.
        high: the greatest value.
    """

    key: str
    kind: str
    low: float
    high: float

    def pick(self, number: int) -> str:
        """The value for a random number of 64 bits, as it is typed."""
        if self.kind == "int":
            low, high = int(self.low), int(self.high)
            return str(low + ((number * (high - low + 1)) >> 64))
        share = number / 2**64
        if self.kind == "log":
            value = math.exp(math.log(self.low) + share * (math.log(self.high) - math.log(self.low)))
        else:
            value = self.low + share * (self.high - self.low)
        return repr(min(self.high, max(self.low, self._rounded(value))))

    def _rounded(self, value: float) -> float:
        if self.kind == "log":  # so many digits that count; more where the range is narrow
            wide = min(1.0, self.high / self.low - 1)
            return float(f"{value:.{max(3, math.ceil(math.log10(STEPS / wide)))}g}")
        return round(value, math.ceil(math.log10(STEPS / (self.high - self.low)))) + 0.0  # no -0.0, which would be another point


def axis(text: str) -> Axis | Range:
    """``optimizer.lr=0.1,0.05`` or ``optimizer.lr=log(1e-3,1e-1)`` as an axis.

    Raises:
        ConfigError: it is none.
    """
    key, equals, rest = text.partition("=")
    where = f"{OPTION} {one_line(text, 60)}"
    if not equals or not _KEY.fullmatch(key):
        raise ConfigError(f"{where}: must be section.key=value,value such as optimizer.lr=0.1,0.05")
    if key in ("run.name", "run.root") or key == "run":
        raise ConfigError(f"{where}: {key} is what tells the points apart; --name names the sweep")
    if found := _RANGE.fullmatch(rest):
        return _range(key, found[1], found[2], where)
    values = tuple(value.strip() for value in split(rest))
    if not all(values):
        raise ConfigError(f"{where}: a value is missing; write null for none")
    if twice := [value for value in dict.fromkeys(values) if values.count(value) > 1]:
        raise ConfigError(f"{where}: {one_line(twice[0], 40)} stands there twice")
    return Axis(key, values)


def _range(key: str, kind: str, inside: str, where: str) -> Range:
    if kind not in KINDS:
        raise ConfigError(f"{where}: no range is called {one_line(kind, 40)}; there are log(a,b), uniform(a,b) and int(a,b)")
    try:
        low, high = (float(part) for part in inside.split(","))
    except ValueError:
        raise ConfigError(f"{where}: must be {kind}(a,b), two numbers") from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high and math.isfinite(high - low)):
        raise ConfigError(f"{where}: the first number must be less than the second one")
    if high - low < sys.float_info.min * STEPS:
        raise ConfigError(f"{where}: the two numbers are too close together")
    if kind == "log" and not (low > 0 and math.isfinite(high / low)):
        raise ConfigError(f"{where}: a logarithm needs numbers greater than 0; uniform(a,b) takes all")
    if kind == "int" and not (low.is_integer() and high.is_integer()):
        raise ConfigError(f"{where}: int(a,b) takes whole numbers")
    return Range(key, kind, low, high)


def split(text: str) -> list[str]:
    """The parts between commas that are in no bracket and no quotes."""
    parts, start, depth, quote = [], 0, 0, ""
    for place, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"" and not text[start:place].strip(" [{,:"):
            quote = letter
        elif letter in _BRACKETS:
            depth += 1
        elif letter in _BRACKETS.values():
            depth -= 1
        elif letter == "," and depth == 0:
            parts.append(text[start:place])
            start = place + 1
    return [*parts, text[start:]]


def draw(axes: Sequence[Axis | Range], seed: int, number: int) -> tuple[tuple[str, str], ...]:
    """One point, (key, value) of each axis: the same whatever else is drawn, and a key's value whatever the other keys are.

    Args:
        axes: what is drawn from.
        seed: the sweep's own.
        number: which draw, counted from 0.
    """
    return tuple((one.key, one.pick(_bits(seed, number, one.key))) for one in axes)


def draws(axes: Sequence[Axis | Range], seed: int, count: int) -> list[tuple[tuple[str, str], ...]]:
    """The first draws, without those that came before: there may be fewer than `count`."""
    return list(dict.fromkeys(draw(axes, seed, number) for number in range(count)))


def _bits(seed: int, number: int, key: str) -> int:
    """64 bits that look like chance, the same on every machine and in every version of Python."""
    return int.from_bytes(hashlib.sha256(f"{seed} {number} {key}".encode()).digest()[:8], "big")
