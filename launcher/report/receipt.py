"""What a run ran on, what could have changed its bits, and the hashes that prove what came out. Pure."""

from __future__ import annotations

from typing import Any

from launcher.report.history import Attempt
from launcher.report.markup import Markup, folded, join, table, tag
from launcher.report.read import RunData
from launcher.report.words import duration, moment, plural
from launcher.standing import number

VERSIONS = ("ostinato", "python", "torch", "torchvision", "numpy", "pillow", "cuda", "cudnn")
MACHINE = ("device", "cpu_capability", "host", "cores")
MOST_CHECKPOINTS = 300


def receipt(run: RunData, attempts: list[Attempt]) -> Markup:
    """Environment, code, attempts and hashes."""
    return join([_verdict(run), _attempts(run, attempts), _software(run), _hashes(run)])


def changes(run: RunData) -> list[str]:
    """What changed between two starts that can change bits."""
    return [str(row.get("change", "?")) for row in run.events if row.get("event") == "environment-changed"]


def _verdict(run: RunData) -> Markup:
    found = changes(run)
    last: dict[str, Any] = next((row for row in reversed(run.events) if row.get("event") == "finished"), {})
    weights = tag("p", "Final weights, SHA-256: ", tag("code", last["weights"], class_="hash")) if last.get("weights") else None
    if found:
        said = tag("p", tag("b", "Bits may differ: "), "between two starts changed ", "; ".join(found), ".", class_="warning")
    elif len(run.environment) > 1:
        said = tag("p", f"Nothing that can change a bit changed over {plural(len(run.environment), 'start')}.", class_="good")
    else:
        said = None
    return join([said, weights])


def _attempts(run: RunData, attempts: list[Attempt]) -> Markup:
    notes = {entry.get("attempt"): entry for entry in run.environment}
    heads = ["attempt", "began", "went on from", "workers W", "virtual ranks V", "threads", "torch", "device", "host", "commit"]
    rows = []
    for attempt in attempts:
        note: dict[str, Any] = notes.get(attempt.number, {})
        cells = [note.get("virtual_ranks"), note.get("threads"), note.get("torch"), note.get("device"), note.get("host"), _commit(note)]
        source = attempt.checkpoint or "the beginning"
        workers = attempt.workers if attempt.workers is not None else note.get("workers")
        rows.append([attempt.number, moment(attempt.begin), source, *(_cell(cell) for cell in (workers, *cells))])
    if not rows:
        return tag("p", "No attempt has begun yet.")
    return table("What each start ran on", heads, rows, numbers=False)


def _cell(value: object) -> object:
    return "–" if value is None else value


def _commit(note: dict[str, Any]) -> str | None:
    code = note.get("code") if isinstance(note.get("code"), dict) else {}
    commit = (code or {}).get("commit")
    if not isinstance(commit, str):
        return None
    return commit[:12] + (" + changes" if (code or {}).get("diff_sha256") else "")


def _software(run: RunData) -> Markup:
    if not run.environment:
        return tag("p", "environment.json tells nothing.")
    last = run.environment[-1]
    rows = [(name, last[name]) for name in (*VERSIONS, *MACHINE) if last.get(name) is not None]
    found = table("Software and machine of the newest start", ["what", "value"], rows, numbers=False)
    code = last.get("code") if isinstance(last.get("code"), dict) else {}
    files = code.get("files") if code else None
    data = last.get("data")
    hashes = [(f"data: {name}", _digest(value)) for name, value in (data.items() if isinstance(data, dict) else ())]
    hashes += [(f"code: {name}", _digest(value)) for name, value in (files.items() if isinstance(files, dict) else ())]
    argv = last.get("argv")
    command = tag("pre", " ".join(str(part) for part in argv), tabindex="0") if isinstance(argv, list) else None
    made = table("Data and code", ["what", "value or SHA-256"], hashes, numbers=False) if hashes else None
    return folded("Versions, machine, data and code", found, made, command)


def _digest(value: object) -> object:
    return tag("code", value, class_="hash") if isinstance(value, str) and len(value) == 64 else value


def _hashes(run: RunData) -> Markup:
    saves = [row for row in run.events if row.get("event") == "checkpointed"]
    if not saves:
        return tag("p", "No checkpoint was written yet.")
    by_name = {name: mark for mark, name in reversed(run.marks.items())}
    both = set(run.marks.values()) if len(set(run.marks.values())) < len(run.marks) else set()
    rows = []
    for row in saves[-MOST_CHECKPOINTS:]:
        name = str(row.get("checkpoint"))
        mark = "best, last" if name in both else by_name.get(name, "" if name in run.checkpoints else "removed")
        weights, seconds, stall = row.get("weights"), number(row.get("seconds")), number(row.get("stall_s"))
        digest = tag("code", weights, class_="hash") if isinstance(weights, str) else "–"
        stalled = "–" if stall is None else f"{1000 * stall:.1f} ms"
        rows.append((name, mark, row.get("attempt"), moment(row.get("time")), duration(seconds), stalled, digest))
    heads = ["checkpoint", "mark", "attempt", "written", "took", "training stopped for", "weights, SHA-256"]
    left_out = f", the newest {len(rows)} of {len(saves):,}" if len(rows) < len(saves) else ""
    return folded(f"{plural(len(saves), 'checkpoint')} and their hashes", table(f"Checkpoints{left_out}", heads, rows, numbers=False))
