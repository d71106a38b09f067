"""What a report tells of a sweep: its results, the best first, and what came of each value of each key."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from launcher.evaluations import finite
from launcher.report.markup import Markup, join, table, tag
from launcher.report.scatter import Spot, scatter
from launcher.report.words import figure, plural
from launcher.results import Result, Table, results
from launcher.sweep_plan import ABOUT, points_of
from trainer.config.load import load
from trainer.errors import RunFolderError
from trainer.rundir import RunDir

SHOWN = 8
"""So many runs, the best ones, are told in full: as many as curves can be told apart."""


@dataclass(frozen=True)
class Swept:
    """A sweep as it is told.

    Args:
        name: of the sweep.
        table: its results.
        best: the run folders of those that are told in full.
    """

    name: str
    table: Table
    best: tuple[RunDir, ...]


def is_sweep(path: str) -> bool:
    """Whether a folder is a sweep's, and no run's."""
    return (Path(path) / ABOUT).is_file() and not RunDir(path).exists()


def read_sweep(path: str) -> Swept:
    """Read a sweep's folder, and the results from its runs' folders beside it.

    Raises:
        RunFolderError: its file is none, or none of its runs has begun.
    """
    folder = Path(path).absolute()
    points = points_of(folder)
    if points is None:
        raise RunFolderError(f"{Path(path) / ABOUT}: does not say what the sweep is; the same ostinato sweep writes it anew")
    runs = [RunDir(Path(path) / ".." / ".." / name) for name, _ in points]
    there = [run for run in runs if run.exists()]
    if not there:
        raise RunFolderError(f"{path}: none of the sweep's runs has begun; there is nothing to report yet")
    found = results(runs, [values for _, values in points], load(there[0].config).config)
    begun = [one for one in found.lines if one.state not in ("missing", "unreadable")]
    return Swept(folder.name, found, tuple(RunDir(one.run) for one in begun[:SHOWN]))


def heading(swept: Swept) -> Markup | None:
    """Which run is the best, in a sentence."""
    first = swept.table.lines[0]
    if swept.table.winner is None:
        return None
    value = figure(swept.table.metric, finite(first.best, swept.table.metric))
    changes = ", ".join(f"{key} {value}" for key, value in first.values.items())
    return tag(
        "p", "The best one: ", tag("a", first.name, href="#run-1"), f", validation {swept.table.metric} {value} ({changes})", class_="state"
    )


def overview(swept: Swept) -> Markup:
    """The table, and a figure for each key that has several values."""
    found = swept.table
    valued = [(one, value) for one in found.lines if (value := finite(one.best, found.metric)) is not None]
    figures = []
    for key in found.keys:
        if len({one.values[key] for one in found.lines}) > 1 and valued:
            spots = [Spot(one.name, one.values[key], value, one.state) for one, value in valued]
            figures.append(scatter(key, f"validation {found.metric}", spots))
    return join([_table(swept), tag("div", *figures, class_="charts") if figures else None])


def _table(swept: Swept) -> Markup:
    found, full = swept.table, {str(run.path): number for number, run in enumerate(swept.best, 1)}
    tested = (name for name in (found.metric, "loss") if any(finite(one.test, name) is not None for one in found.lines))
    test = next(tested, None)
    heads = ["run", *found.keys, f"validation {found.metric}", *([f"test {test}"] if test else []), "epochs", "state"]
    rows = [_row(one, found, full.get(one.run), test) for one in found.lines]
    which = "most" if found.more else "least"
    caption = f"{plural(len(found.lines), 'run')}, the {which} {found.metric} of any evaluation on the validation set first"
    more = len(found.lines) - len(full)
    note = tag("p", f"The first {len(full)} are told in full below; ostinato report tells each of the others.", class_="note")
    return join([table(caption, heads, rows), note if more else None])


def _row(one: Result, found: Table, number: int | None, test: str | None) -> list[object]:
    said = figure(found.metric, finite(one.best, found.metric))
    best = tag("b", said, tag("span", " best", class_="best")) if one.name == found.winner else said
    name = tag("a", one.name, href=f"#run-{number}") if number is not None else one.name
    state = f"{one.state} ({one.detail})" if one.detail else one.state
    tested = [figure(test, finite(one.test, test))] if test else []
    epoch = "–" if one.epoch is None else one.epoch
    return [name, *(one.values[key] for key in found.keys), best, *tested, epoch, state]
