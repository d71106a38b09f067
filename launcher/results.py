"""What came of many runs, as one table: on the screen, as JSON and as CSV (free of torch)."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from launcher.closing import say
from launcher.evaluations import best_of, evaluations, finite, watched
from launcher.standing import Standing, look, number, whole
from launcher.status import row_of
from launcher.tail import newest_rows
from trainer.config.schema import Config
from trainer.errors import OstinatoError
from trainer.files import write_atomic
from trainer.rundir import RunDir

POLL_S = 2.0
SEARCHED_BYTES = 1 << 22


@dataclass(frozen=True)
class Result:
    """One run's line.

    Args:
        run: the folder.
        name: its name.
        values: what it changes in the config.
        state: how it stands; detail: more about it.
        step: updates done; epoch: epochs done.
        best: the best evaluation on the validation set, by what the config watches.
        test: the figures of the test.
    """

    run: str
    name: str
    values: Mapping[str, str]
    state: str
    detail: str = ""
    step: int | None = None
    epoch: int | None = None
    best: dict[str, Any] | None = None
    test: dict[str, Any] | None = None


@dataclass(frozen=True)
class Table:
    """The lines of some runs, the best first.

    Args:
        metric: what the config watches; more: whether more of it is better.
        lines: a line for each run; those that failed come behind, and those without an evaluation last, in their own order.
        keys: what the runs differ in.
    """

    metric: str
    more: bool
    lines: tuple[Result, ...]
    keys: tuple[str, ...] = field(default=())

    @property
    def winner(self) -> str | None:
        """The name of the best one that did not fail."""
        first = self.lines[0] if self.lines else None
        return first.name if first and first.state != "failed" and finite(first.best, self.metric) is not None else None

    def as_rows(self) -> list[dict[str, Any]]:
        """The lines as plain values."""
        figures = [{"metric": self.metric, "value": finite(one.best, self.metric), "winner": one.name == self.winner} for one in self.lines]
        return [{**asdict(one), **more} for one, more in zip(self.lines, figures, strict=True)]


def results(runs: Sequence[RunDir], values: Sequence[Mapping[str, str]], config: Config) -> Table:
    """The table of some runs; those that are not there yet too.

    Args:
        runs: the folders.
        values: what each changes.
        config: what they have in common.
    """
    there = [run for run in runs if run.exists()]
    known = dict(zip((str(run.path) for run in there), look(there)[0], strict=True))
    rows = {str(run.path): evaluations(run) for run in there}
    metric, more = watched(config, [row for each in rows.values() for row in each])
    found = []
    for run, point in zip(runs, values, strict=True):
        path = str(run.path)
        if path in known:
            found.append(_result(run, point, known[path], best_of(rows[path], metric, more)))
        else:
            found.append(Result(path, run.name, point, "missing"))
    return Table(metric, more, tuple(sorted(found, key=_place(metric, more))), tuple(values[0]) if values else ())


def _result(run: RunDir, point: Mapping[str, str], one: Standing | OstinatoError, best: Mapping[str, Any] | None) -> Result:
    row = row_of(run, one)
    test = next(newest_rows(run.metrics, b'"split": "test"', limit=SEARCHED_BYTES), None)
    return Result(str(run.path), row.name, point, row.state, row.detail, row.step, whole(row.epoch), _figures(best), _figures(test))


def _place(metric: str, more: bool) -> Callable[[Result], tuple[bool, bool, float]]:
    """A key that is least for the best line; a run that failed is behind those that did not, whatever it had reached."""

    def key(one: Result) -> tuple[bool, bool, float]:
        value = finite(one.best, metric)
        return value is None, one.state == "failed", 0.0 if value is None else -value if more else value

    return key


def _figures(row: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if row is None else {name: value for name, value in row.items() if name not in ("time", "attempt", "split")}


def print_results(table: Table, as_json: bool) -> None:
    """The table, or a JSON list."""
    if as_json:
        print(json.dumps(table.as_rows(), indent=2))
        return
    heads = ("run", *table.keys, "state", "epoch", "best valid", "test")
    lines = [heads, *(_cells(one, table) for one in table.lines)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _cells(one: Result, table: Table) -> tuple[str, ...]:
    state = f"{one.state} ({one.detail})" if one.detail else one.state
    epoch = "-" if one.epoch is None else str(one.epoch)
    mark = " *" if one.name == table.winner else ""
    figures = (_figure(one.best, table.metric) + mark, _figure(one.test, table.metric))
    return (one.name, *(one.values[key] for key in table.keys), state, epoch, *figures)


def _figure(row: Mapping[str, Any] | None, metric: str) -> str:
    """The watched metric, and accuracy and loss besides."""
    parts = []
    for name in dict.fromkeys((metric, "accuracy", "loss")):
        value = number((row or {}).get(name))
        if value is not None:
            parts.append(f"{100 * value:.2f} %" if name == "accuracy" else f"{name} {value:.4g}")
    return " ".join(parts) or "-"


def keep(table: Table, folder: Path) -> None:
    """Write ``results.json`` and ``results.csv``."""
    rows = table.as_rows()
    write_atomic(folder / "results.json", (json.dumps(rows, indent=2) + "\n").encode(), durable=False)
    out = io.StringIO()
    sheet = csv.writer(out)
    tests = list(dict.fromkeys(name for row in rows for name in row["test"] or {} if name not in ("step", "epoch")))
    sheet.writerow(["run", *table.keys, "state", "epoch", "step", f"valid {table.metric}", *(f"test {name}" for name in tests)])
    for row in rows:
        figures = [row["value"], *((row["test"] or {}).get(name) for name in tests)]
        sheet.writerow([row["name"], *(row["values"][key] for key in table.keys), row["state"], row["epoch"], row["step"], *figures])
    write_atomic(folder / "results.csv", out.getvalue().encode(), durable=False)


def wait_until_none(under_way: Callable[[], Sequence[Standing]]) -> None:
    """Wait until no run is under way, and tell how many are, whenever that changes."""
    before = -1
    while left := under_way():
        if len(left) != before:
            before = len(left)
            say(f"{before} run{'' if before == 1 else 's'} under way", error=True)
        time.sleep(POLL_S)
