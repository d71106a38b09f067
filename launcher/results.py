"""What came of many runs, as one table (free of torch)."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from launcher.closing import say
from launcher.standing import Standing, look, number
from launcher.status import row_of
from launcher.tail import newest_rows
from trainer.config.schema import Config
from trainer.errors import OstinatoError
from trainer.rundir import RunDir, read_jsonl

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
        step: updates done.
        best: the best evaluation on the validation set, by what the config monitors.
        test: the figures of the test.
    """

    run: str
    name: str
    values: Mapping[str, str]
    state: str
    detail: str
    step: int | None
    best: dict[str, Any] | None
    test: dict[str, Any] | None


def results(runs: Sequence[RunDir], values: Sequence[Mapping[str, str]], config: Config) -> list[Result]:
    """The lines of some runs; those that are not there yet too."""
    there = [run for run in runs if run.exists()]
    known: dict[str, Standing | OstinatoError] = dict(zip((str(run.path) for run in there), look(there)[0], strict=True))
    found = []
    for run, point in zip(runs, values, strict=True):
        one = known.get(str(run.path))
        if one is None:
            found.append(Result(str(run.path), run.name, point, "missing", "", None, None, None))
            continue
        row = row_of(run, one)
        test = next(newest_rows(run.metrics, b'"split": "test"', limit=SEARCHED_BYTES), None)
        best = best_of([line for line in read_jsonl(run.metrics) if line.get("split") == "valid"], config)
        found.append(Result(str(run.path), row.name, point, row.state, row.detail, row.step, best, _figures(test)))
    return found


def monitored(config: Config, rows: Sequence[Mapping[str, Any]]) -> tuple[str, bool]:
    """What says which weights are the best, and whether more of it is better. Pure."""
    name, mode = config.train.monitor, config.train.monitor_mode
    if name == "auto":
        name = "accuracy" if any("accuracy" in row for row in rows) else "loss"
    return name, mode == "max" or (mode == "auto" and not any(word in name for word in ("loss", "error")))


def best_of(rows: Sequence[Mapping[str, Any]], config: Config) -> dict[str, Any] | None:
    """The best of a run's evaluations. Pure."""
    name, more = monitored(config, rows)
    with_it = [row for row in rows if number(row.get(name)) is not None]
    if not with_it:
        return None
    return _figures((max if more else min)(with_it, key=lambda row: float(row[name])))


def _figures(row: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if row is None else {name: value for name, value in row.items() if name not in ("time", "attempt", "split")}


def winner(found: Sequence[Result], config: Config) -> str | None:
    """The name of the run with the best evaluation. Pure."""
    name, more = monitored(config, [one.best for one in found if one.best])
    with_it = [one for one in found if one.best and number(one.best.get(name)) is not None]
    return (max if more else min)(with_it, key=lambda one: float((one.best or {})[name])).name if with_it else None


def print_results(found: Sequence[Result], as_json: bool, best: str | None = None) -> None:
    """The table, or a JSON list."""
    if as_json:
        print(json.dumps([{**asdict(one), "winner": one.name == best} for one in found], indent=2))
        return
    keys = list(found[0].values) if found else []
    heads = ("run", *keys, "state", "step", "best valid", "test")
    lines = [heads, *(_cells(one, keys, best) for one in found)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _cells(one: Result, keys: Sequence[str], best: str | None) -> tuple[str, ...]:
    state = f"{one.state} ({one.detail})" if one.detail else one.state
    step = "-" if one.step is None else str(one.step)
    mark = " *" if one.name == best else ""
    return (one.name, *(one.values[key] for key in keys), state, step, _figure(one.best) + mark, _figure(one.test))


def _figure(row: Mapping[str, Any] | None) -> str:
    accuracy, loss = (number((row or {}).get(name)) for name in ("accuracy", "loss"))
    parts = [f"{100 * accuracy:.2f} %" if accuracy is not None else "", f"loss {loss:.4g}" if loss is not None else ""]
    return " ".join(part for part in parts if part) or "-"


def wait_until_none(under_way: Callable[[], Sequence[Standing]]) -> None:
    """Wait until no run is under way, and tell how many are, whenever that changes."""
    before = -1
    while left := under_way():
        if len(left) != before:
            before = len(left)
            say(f"{before} run{'' if before == 1 else 's'} under way", error=True)
        time.sleep(POLL_S)
