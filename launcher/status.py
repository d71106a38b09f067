"""``ostinato status``: all runs, one line each, wherever they run (free of torch)."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from launcher.standing import Standing, look, moved_at, number, whole
from launcher.tail import newest_rows
from trainer.checkpoint import manifest
from trainer.errors import BAD_CONFIG, DONE, OstinatoError, RunFolderError
from trainer.rundir import RunDir, read_json

HEADS = ("run", "state", "step", "epoch", "valid", "checkpoint", "starts", "restarts", "where", "moved")
COLOURS = {"running": "green", "waiting": "yellow", "stopped": "yellow", "failed": "red", "lost": "red", "unreadable": "red"}
ROW_BYTES = 1 << 22  # how far back the newest evaluation is looked for


@dataclass(frozen=True)
class Row:
    """One run, as it is listed.

    Args:
        name: the folder's name.
        run: the folder.
        state: running, waiting, stopped, failed, finished, lost, created or unreadable.
        detail: more about the state.
        step: updates done; of: of how many, where that is known.
        epoch: epochs done; epochs: of how many.
        valid: the newest evaluation's figures.
        checkpoint: the newest one's name.
        starts: attempts; restarts: those of them that followed a fault.
        host, process: who holds the run's lock.
        job_id, nodes, partition, left_s: what Slurm says of it while it waits or runs there.
        moved: when it last moved, in seconds since 1970.
    """

    name: str
    run: str
    state: str
    detail: str = ""
    exit_code: int | None = None
    step: int | None = None
    of: int | None = None
    epoch: int | None = None
    epochs: int | None = None
    valid: dict[str, Any] | None = None
    checkpoint: str | None = None
    starts: int = 0
    restarts: int = 0
    host: str | None = None
    process: int | None = None
    job_id: str | None = None
    nodes: str | None = None
    partition: str | None = None
    left_s: int | None = None
    moved: float | None = None


def status(runs: Sequence[str], *, root: str, as_json: bool = False) -> int:
    """Print how runs stand.

    Args:
        runs: run folders; none: all of them below `root`.
        root: the folder around the runs.
        as_json: print a JSON list instead of a table.

    Returns:
        0; 2 if a run that was named is none or cannot be read.
    """
    folders = [RunDir(run) for run in runs] if runs else runs_below(Path(root))
    found, warning = look(folders)
    rows = [row_of(run, one) for run, one in zip(folders, found, strict=True)]
    if as_json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    elif rows:
        _print_table(rows)
    else:
        print(f"{root}: no run here")
    if warning:
        print(f"ostinato: {warning}; what is said of its jobs is from the run folders alone", file=sys.stderr)
    return BAD_CONFIG if runs and any(row.state == "unreadable" for row in rows) else DONE


def runs_below(root: Path) -> list[RunDir]:
    """The runs in a folder, by name; the folder itself, if it is one.

    Raises:
        RunFolderError: it cannot be read.
    """
    if RunDir(root).exists():
        return [RunDir(root)]
    try:
        inside = sorted(root.iterdir())
    except FileNotFoundError:
        return []
    except OSError as fault:
        raise RunFolderError(f"{root}: cannot be read ({fault.strerror}); name the folder of your runs (--root)") from fault
    return [RunDir(path) for path in inside if _looks_like_one(path)]


def _looks_like_one(path: Path) -> bool:
    try:
        return RunDir(path).exists() or RunDir(path).events.exists()
    except OSError:  # a folder that may not be entered: its line says so
        return True


def row_of(run: RunDir, found: Standing | OstinatoError) -> Row:
    """What is listed of a run; a file in it that cannot be read makes it a line that says so."""
    path = str(run.path)
    if isinstance(found, OstinatoError):
        return Row(run.name or path, path, "unreadable", str(found))
    try:
        return _row(run, found)
    except (OSError, ValueError, TypeError, AttributeError, RecursionError, yaml.YAMLError) as fault:
        reason = str(fault).splitlines()[0] if str(fault) else type(fault).__name__
        return Row(run.name or path, path, "unreadable", f"{run.path}: {reason}")


def _row(run: RunDir, standing: Standing) -> Row:
    facts, job = standing.facts, standing.job
    settings = _settings(run)
    train = settings.get("train") or {}
    newest = next(newest_rows(run.metrics), {})
    valid = next(newest_rows(run.metrics, b'"split": "valid"', limit=ROW_BYTES), None)
    beat = facts.beat if standing.state == "running" else {}
    steps = (whole(beat.get("step")), facts.step, whole(newest.get("step")))
    epochs = (whole(beat.get("epoch")), whole(newest.get("epoch")))
    names = manifest.names(run.checkpoints)
    in_slurm = standing.on and job is not None and job.lives
    return Row(
        name=run.path.resolve().name,
        run=str(run.path),
        state=standing.state,
        detail=standing.detail,
        exit_code=whole(facts.last.get("exit_code")) if standing.state == "failed" else None,
        step=max((step for step in steps if step is not None), default=None),
        of=_total(run, settings),
        epoch=max((epoch for epoch in epochs if epoch is not None), default=None),
        epochs=whole(train.get("epochs")),
        valid={name: value for name, value in valid.items() if name not in ("time", "attempt", "split")} if valid else None,
        checkpoint=names[-1] if names else None,
        starts=facts.starts,
        restarts=facts.restarts,
        host=facts.named.host if standing.state == "running" else None,
        process=facts.named.pid if standing.state == "running" else None,
        job_id=facts.job_id if in_slurm or standing.state == "waiting" else None,
        nodes=job.nodes or None if in_slurm and job else None,
        partition=job.partition or None if in_slurm and job else None,
        left_s=job.left_s if in_slurm and job else None,
        moved=moved_at(facts),
    )


def _settings(run: RunDir) -> dict[str, Any]:
    """The run's config as plain values, unchecked: it was checked when it was written, and checking takes longer than all the rest."""
    value = yaml.load(run.config.read_bytes(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    if not isinstance(value, dict):
        raise ValueError("config.yaml holds no settings")
    return value


def _total(run: RunDir, settings: dict[str, Any]) -> int | None:
    """The updates of the whole run, by an epoch that is complete, or by the number of samples."""
    train, data = settings.get("train") or {}, settings.get("data") or {}
    epochs, most = whole(train.get("epochs")), whole(train.get("max_steps"))
    per_epoch = _steps_of_an_epoch(run, data)
    limits = [most, None if epochs is None or per_epoch is None else epochs * per_epoch]
    return min((limit for limit in limits if limit is not None), default=None)


def _steps_of_an_epoch(run: RunDir, data: dict[str, Any]) -> int | None:
    for row in newest_rows(run.metrics, b'"split": "epoch"', limit=ROW_BYTES):
        step, epoch = whole(row.get("step")), whole(row.get("epoch"))
        return step // epoch if step and epoch and step % epoch == 0 else None
    with suppress(OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        samples, batch = whole(read_json(run.environment)[-1]["data"]["samples"]), whole(data.get("batch_size"))
        if samples and batch:
            return samples // batch if data.get("drop_last") else -(-samples // batch)
    return None


def _print_table(rows: Sequence[Row]) -> None:
    lines = [cells(row, time.time()) for row in rows]
    if sys.stdout.isatty():
        _print_rich(rows, lines)
        return
    widths = [max(len(line[column]) for line in (HEADS, *lines)) for column in range(len(HEADS))]
    for line in (HEADS, *lines):
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _print_rich(rows: Sequence[Row], lines: Sequence[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*HEADS, box=None, pad_edge=False)
    for row, line in zip(rows, lines, strict=True):
        texts = [Text(cell) for cell in line]
        texts[1].stylize(COLOURS.get(row.state, ""))
        table.add_row(*texts)
    Console().print(table)


def cells(row: Row, now: float) -> tuple[str, ...]:
    """A row for people. Pure."""
    state = f"{row.state} ({row.detail})" if row.detail else row.state
    if row.state == "unreadable":
        return (row.name, f"{row.state}: {row.detail}", *[""] * (len(HEADS) - 2))
    return (
        row.name,
        state,
        _of(row.step, row.of),
        _of(row.epoch, row.epochs),
        _figure(row.valid),
        row.checkpoint or "-",
        str(row.starts),
        str(row.restarts),
        _where(row),
        "-" if row.moved is None else ago(now - row.moved),
    )


def _of(done: int | None, whole_: int | None) -> str:
    return "-" if done is None else f"{done}/{whole_}" if whole_ is not None else str(done)


def _figure(valid: dict[str, Any] | None) -> str:
    """The accuracy if there is one, else the loss."""
    accuracy, loss = (number((valid or {}).get(name)) for name in ("accuracy", "loss"))
    if accuracy is not None:
        return f"accuracy {100 * accuracy:.2f} %"
    return f"loss {loss:.6g}" if loss is not None else "-"


def _where(row: Row) -> str:
    if row.job_id is not None:
        return f"Slurm {row.job_id}" + (f" on {row.nodes}" if row.nodes else "")
    if row.process is not None:
        return f"{row.host}, process {row.process}"
    return "-"


def ago(seconds: float) -> str:
    """``12 s ago``, in the unit that fits."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit} ago"
    return f"{max(0.0, seconds):.0f} s ago"
