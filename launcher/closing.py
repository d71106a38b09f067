"""The last lines of a run: what it reached, where it is, how to go on (free of torch)."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from launcher.failure import MAX_LINES, NOT_BEGUN, Verdict, WorkerEnd
from trainer.errors import DONE, STOPPED
from trainer.rundir import RunDir, read_json, read_jsonl
from trainer.stop import PAUSE


def with_outcomes(run: RunDir, attempt: int, ends: Sequence[WorkerEnd]) -> list[WorkerEnd]:
    """The ends, with what each worker wrote about its own."""
    return [end if end.outcome is not None else replace(end, outcome=_outcome(run, attempt, end.rank)) for end in ends]


def _outcome(run: RunDir, attempt: int, rank: int) -> dict[str, Any] | None:
    try:
        value = read_json(run.outcome(attempt, rank))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) and "exit_code" in value else None


def newest(run: RunDir) -> str | None:
    """The newest checkpoint that was written whole, by its event; None: there is none."""
    found = None
    for row in read_jsonl(run.events):
        if row.get("event") == "checkpointed":
            found = str(row.get("checkpoint"))
    return found


def say(text: str, *, error: bool = False) -> None:
    """A line for the person at the terminal; whose terminal is gone misses it, and nothing else changes."""
    with suppress(OSError):
        print(text, file=sys.stderr if error else sys.stdout, flush=True)


def closing_lines(run: RunDir, attempt: int, verdict: Verdict) -> list[str]:
    """What to print at the end, at most ten lines."""
    if verdict.exit_code == DONE:
        return [done_line(run)]
    if verdict.exit_code == STOPPED:
        return list(verdict.lines) or [stopped_line(run)]
    log = None if verdict.rank is None else run.rank_log(attempt, verdict.rank)
    if log is None or not log.exists():  # it ended before it had one
        return list(verdict.lines)
    return [*verdict.lines[: MAX_LINES - 1], f"log: {log}"]


def done_line(run: RunDir) -> str:
    """The result in one line: the test's if there was one, else the newest validation's."""
    last = {row["split"]: row for row in read_jsonl(run.metrics) if "split" in row}
    row = last.get("test") or last.get("valid")
    parts = [f"run folder {run.path}"]
    if row is not None:
        parts.insert(0, _metrics(row))
    if run.tensorboard.is_dir():
        parts.append(f"tensorboard --logdir {run.tensorboard}")
    return " · ".join(parts)


def _metrics(row: dict[str, Any]) -> str:
    split = row["split"]
    name = next((name for name in ("accuracy", "loss") if name in row), None)
    if name is None:
        return f"{split} done"
    if row[name] is None:
        return f"{split} {name} not finite"
    return f"{split} accuracy {100 * row[name]:.2f} %" if name == "accuracy" else f"{split} loss {row[name]:.6g}"


def stopped_line(run: RunDir) -> str:
    """Where a stopped run stands."""
    rows = [row for row in read_jsonl(run.events) if row.get("event") in ("stopped", "checkpointed") and "step" in row]
    if not rows:
        return NOT_BEGUN
    where = f"at step {rows[-1]['step']} with a checkpoint"
    if rows[-1].get("reason") == PAUSE:
        return f"paused after epoch {rows[-1].get('epoch')}, {where}; without {PAUSE} the same command goes on"
    return f"stopped {where}; the same command goes on"
