"""A sweep's axes -> its points: what each changes, and what its run is called (pure, free of torch)."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from launcher.space import OPTION, Axis, Range, draws
from trainer.errors import ConfigError

MAX_NAME = 64
Values = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class GridPoint:
    """One run of a sweep.

    Args:
        name: what the run is called: by its values, so that the same point has the same name whatever else is in the sweep.
        values: (key, value) of each axis, as they were typed.
    """

    name: str
    values: Values

    @property
    def overrides(self) -> tuple[str, ...]:
        """What the point changes in the config."""
        return (*(f"{key}={value}" for key, value in self.values), f"run.name={self.name}")


def expand(axes: Sequence[Axis | Range], base: str) -> list[GridPoint]:
    """All points of a grid, the last axis changing first.

    Args:
        axes: in the order of the command line.
        base: what the names of the runs begin with.

    Raises:
        ConfigError: a key has two axes, or a range.
    """
    keys = _keys(axes)
    lists = [one for one in axes if isinstance(one, Axis)]
    for one in axes:
        if isinstance(one, Range):
            raise ConfigError(f"{OPTION} {one.key}={one.kind}(…): how many values are to be drawn from it? say --random N")
    combinations = itertools.product(*(one.values for one in lists))
    return named([tuple(zip(keys, values, strict=True)) for values in combinations], base)


def chosen(axes: Sequence[Axis | Range], base: str, seed: int, count: int) -> list[GridPoint]:
    """Points drawn at random, each once; a greater `count` keeps the first ones.

    Raises:
        ConfigError: a key has two axes.
    """
    _keys(axes)
    return named(draws(axes, seed, count), base)


def _keys(axes: Sequence[Axis | Range]) -> list[str]:
    keys = [one.key for one in axes]
    for key in keys:
        if keys.count(key) > 1:
            raise ConfigError(f"{OPTION} {key}=…: stands there twice; put all its values into one")
    return keys


def named(points: Sequence[Values], base: str) -> list[GridPoint]:
    """Points with their names."""
    return [GridPoint(_name(base, point), point) for point in points]


def _name(base: str, point: Values) -> str:
    """``digits-lr0.05-width16``; where that is too long or could mean two points, a hash tells them apart."""
    lasts = [key.rpartition(".")[2] for key, _ in point]
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
