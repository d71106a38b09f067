"""How several runs are told apart: by labels, and by colours and dashes, of which there are eight. Reads no file, but follows links."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

from launcher.evaluations import more_is_better
from launcher.report.chart import STYLES
from launcher.report.read import RunData


def labels(folders: Sequence[Path]) -> list[str]:
    """A label for each of some different folders: its name, after as much of its path as tells it from others of that name."""
    parts = [Path(os.path.realpath(folder)).parts for folder in folders]
    return [_label(own, [other for other in parts if other != own]) for own in parts]


def _label(own: tuple[str, ...], others: Sequence[tuple[str, ...]]) -> str:
    lengths = range(1, len(own))
    length = next((n for n in lengths if all(other[-n:] != own[-n:] for other in others)), len(own))
    return str(Path(*own[-length:]))


def styles(runs: Sequence[RunData]) -> list[int | None]:
    """The style of each run's curves; None: one of the rest, all of which look alike."""
    leading = sorted(_ranked(runs)[:STYLES])
    return [leading.index(place) if place in leading else None for place in range(len(runs))]


def note(runs: Sequence[RunData]) -> str | None:
    """Which runs look alike, and why those; None: none do."""
    if len(runs) <= STYLES:
        return None
    wish = _wish(runs)
    those = f"The first {STYLES} runs"
    if wish is not None:
        those = f"The {STYLES} runs of the {'greatest' if wish[1] else 'least'} validation {wish[0].replace('_', ' ')}"
    return f"{those} have colours and dashes of their own; the other {len(runs) - STYLES} are thin and grey. Numbers has them all."


def _ranked(runs: Sequence[RunData]) -> list[int]:
    """The places of the runs, the best first, where it is known which are; else as they are."""
    wish = _wish(runs)
    if wish is None:
        return list(range(len(runs)))
    name, more = wish
    found = [[value for value in run.curves["valid", name].y if value == value] if ("valid", name) in run.curves else [] for run in runs]
    worst = -math.inf if more else math.inf
    best = [(max if more else min)(values, default=worst) for values in found]
    return sorted(range(len(runs)), key=lambda place: -best[place] if more else best[place])


def _wish(runs: Sequence[RunData]) -> tuple[str, bool] | None:
    """What all of them watch, and whether more of it is better; None: they do not agree, or none of them has it."""
    names = {_watched(run) for run in runs}
    if len(names) > 1:
        return None
    name = names.pop() or ("accuracy" if any(("valid", "accuracy") in run.curves for run in runs) else "loss")
    if all(("valid", name) not in run.curves for run in runs):
        return None
    wishes = {more_is_better(run.settings, name) for run in runs}
    wish = wishes.pop()
    return None if wishes or wish is None else (name, wish)


def _watched(run: RunData) -> str | None:
    """What a run's config watches; None: that is left to ostinato."""
    train = run.settings.get("train")
    name = train.get("monitor") if isinstance(train, dict) else None
    return name if isinstance(name, str) and name != "auto" else None
