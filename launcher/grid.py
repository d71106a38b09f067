"""``--grid section.key=a,b,c`` -> a sweep's points: what each changes, and what its run is called (pure, free of torch)."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.config.strict_yaml import one_line
from trainer.errors import ConfigError

MAX_NAME = 64
_KEY = re.compile(r"\w[\w-]*(\.\w[\w-]*)*")
_BRACKETS = {"[": "]", "{": "}"}
OPTION = "command line: --grid"


@dataclass(frozen=True)
class Axis:
    """One key of the config, and the values that it is to have."""

    key: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class GridPoint:
    """One run of a sweep.

    Args:
        name: what the run is called: by its values, so that the same point has the same name whatever else is in the sweep.
        values: (key, value) of each axis, as they were typed.
    """

    name: str
    values: tuple[tuple[str, str], ...]

    @property
    def overrides(self) -> tuple[str, ...]:
        """What the point changes in the config."""
        return (*(f"{key}={value}" for key, value in self.values), f"run.name={self.name}")


def axis(text: str) -> Axis:
    """``optimizer.lr=0.1,0.05`` as an axis.

    Raises:
        ConfigError: it is none.
    """
    key, equals, rest = text.partition("=")
    where = f"{OPTION} {one_line(text, 60)}"
    if not equals or not _KEY.fullmatch(key):
        raise ConfigError(f"{where}: must be section.key=value,value such as optimizer.lr=0.1,0.05")
    if key in ("run.name", "run.root") or key == "run":
        raise ConfigError(f"{where}: {key} is what tells the points apart; --name names the sweep")
    values = tuple(value.strip() for value in split(rest))
    if not all(values):
        raise ConfigError(f"{where}: a value is missing; write null for none")
    if twice := [value for value in dict.fromkeys(values) if values.count(value) > 1]:
        raise ConfigError(f"{where}: {one_line(twice[0], 40)} stands there twice")
    return Axis(key, values)


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


def expand(axes: Sequence[Axis], base: str) -> list[GridPoint]:
    """All points of a grid, the last axis changing first.

    Args:
        axes: in the order of the command line.
        base: what the names of the runs begin with.

    Raises:
        ConfigError: a key has two axes.
    """
    keys = [one.key for one in axes]
    for key in keys:
        if keys.count(key) > 1:
            raise ConfigError(f"{OPTION} {key}=…: stands there twice; put all its values into one")
    combinations = itertools.product(*(one.values for one in axes))
    points = [tuple(zip(keys, values, strict=True)) for values in combinations]
    return [GridPoint(_name(base, point, keys), point) for point in points]


def _name(base: str, point: tuple[tuple[str, str], ...], keys: Sequence[str]) -> str:
    """``digits-lr0.05-width16``; where that is too long or could mean two points, a hash tells them apart."""
    lasts = [key.rpartition(".")[2] for key in keys]
    parts, exact = [], True
    for key, value in point:
        last = key.rpartition(".")[2]
        short = last if lasts.count(last) == 1 else key.replace(".", "_")
        word = re.sub(r"[^A-Za-z0-9._-]+", "_", value)
        exact = exact and word == value
        parts.append(f"{short}{word}")
    name = "-".join([base, *parts])
    if exact and len(name) <= MAX_NAME:
        return name
    tail = hashlib.sha256(repr(point).encode()).hexdigest()[:8]
    return f"{name[: MAX_NAME - 9].rstrip('_.-')}-{tail}"


def base_name(config: str, name: str | None) -> str:
    """What a sweep is called: ``--name``, or the config file's stem."""
    return name if name is not None else Path(config).stem
