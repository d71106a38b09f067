"""Several runs side by side: results, and in what their configs and environments differ. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from launcher.compare import MACHINE, VERSIONS
from launcher.evaluations import more_is_better
from launcher.report.history import Attempt, worked_s
from launcher.report.markup import Markup, join, table, tag
from launcher.report.read import RunData
from launcher.report.words import duration, figure

QUIET = ("run", "log", "checkpoint", "supervision")
"""Sections that cannot change a bit."""
MOST = 60


def comparison(runs: Sequence[RunData], attempts: Sequence[list[Attempt]]) -> Markup:
    """Results, configs, environments."""
    return join([_results(runs, attempts), _configs(runs), _environments(runs)])


def _results(runs: Sequence[RunData], attempts: Sequence[list[Attempt]]) -> Markup:
    columns = dict.fromkeys(
        (split, name)
        for split in ("test", "valid")
        for run in runs
        for name in run.newest.get(split, {})
        if name not in ("time", "attempt", "step", "epoch", "split")
    )
    heads = ["run", "state", "steps", *(f"{split} {name.replace('_', ' ')}" for split, name in columns), "at work", "starts", "weights"]
    best = {column: _best(runs, *column) for column in columns}
    rows = []
    for run, tried in zip(runs, attempts, strict=True):
        cells = []
        for split, name in columns:
            value = run.first(split, name)
            said = figure(name, value)
            cells.append(tag("b", said, tag("span", " best", class_="best")) if value is not None and value == best[split, name] else said)
        finished: dict[str, Any] = next((row for row in reversed(run.events) if row.get("event") == "finished"), {})
        weights = str(finished.get("weights") or "–")[:12]
        steps = f"{run.row.step if run.row.step is not None else '–'} of {run.row.of if run.row.of is not None else '?'}"
        rows.append([run.name, run.row.state, steps, *cells, duration(worked_s(tried)), len(tried), tag("code", weights)])
    return table("Results", heads, rows)


def _best(runs: Sequence[RunData], split: str, name: str) -> float | None:
    """The best value of a figure, where several runs have one, they differ, and all say alike which is better."""
    values = [value for run in runs if (value := run.first(split, name)) is not None]
    wishes = {more_is_better(run.settings, name) for run in runs}
    if len(set(values)) < 2 or len(wishes) > 1 or None in wishes:
        return None
    return max(values) if wishes == {True} else min(values)


def flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The options of a config by their full names."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from flat(inner, f"{path}.{key}" if path else str(key))
    else:
        yield path, value


def _differing(each: Sequence[dict[str, Any]]) -> list[str]:
    keys = dict.fromkeys(key for one in each for key in one)
    return [key for key in keys if any(repr(one.get(key)) != repr(each[0].get(key)) for one in each)]


def _short(value: object) -> str:
    said = "–" if value is None else str(value)
    return said if len(said) <= MOST else f"{said[: MOST - 1]}…"


def _configs(runs: Sequence[RunData]) -> Markup:
    each = [dict(flat(run.settings)) for run in runs]
    keys = [key for key in _differing(each) if key != "run.name"]
    if not keys:
        return tag("p", "The configs are the same.", class_="good")
    keys.sort(key=lambda key: key.partition(".")[0] in QUIET)
    rows = []
    for key in keys:
        quiet = key.partition(".")[0] in QUIET or key in ("data.loader_workers", "data.prefetch_factor")
        note = tag("small", " (cannot change a bit)") if quiet else None
        rows.append([join([key, note]), *(_short(one.get(key)) for one in each)])
    return table("Options in which the configs differ", ["option", *(run.name for run in runs)], rows, numbers=False)


def _environments(runs: Sequence[RunData]) -> Markup:
    each = []
    for run in runs:
        last = run.environment[-1] if run.environment else {}
        found = {name: last.get(name) for name in (*VERSIONS, *MACHINE)}
        code = last.get("code") if isinstance(last.get("code"), dict) else {}
        data = last.get("data") if isinstance(last.get("data"), dict) else {}
        each.append({**found, "commit": (code or {}).get("commit"), **{f"data {name}": value for name, value in (data or {}).items()}})
    keys = _differing(each)
    if not keys:
        return tag("p", "They ran on the same software, machine and data.", class_="good")
    rows = [[key, *(_short(one.get(key)) for one in each)] for key in keys]
    return table("In what they ran differently", ["what", *(run.name for run in runs)], rows, numbers=False)
