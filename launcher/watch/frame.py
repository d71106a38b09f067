"""One frame: what a glance shows, for any width. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.progress_bar import ProgressBar
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from launcher.report.history import what_happened
from launcher.report.words import duration, figure, moment, size
from launcher.standing import number, whole
from launcher.status import COLOURS, ago
from launcher.watch.glance import Glance
from launcher.watch.spark import braille, plain

SHOWN_RANKS = 8
SPLITS = (("train", "training", "cyan"), ("epoch", "training", "cyan"), ("valid", "validation", "yellow"))
CURVE_HEIGHT = 3


def frame(glance: Glance, *, live: bool = True) -> RenderableType:
    """The whole frame.

    Args:
        glance: what is seen.
        live: it will be drawn again, and says how to leave.
    """
    if glance.standing is None or glance.row is None:
        waits = "waiting for it; Ctrl-C leaves" if live else "nothing to show"
        return Group(Text(glance.problem or f"{glance.run.path}: no run here yet", style="yellow"), Text(waits, style="dim"))
    parts: list[RenderableType] = [_head(glance), *_progress(glance), Text("")]
    parts += [*_curves(glance), *_ranks(glance), *_saves(glance), *_events(glance)]
    if glance.problem:
        parts.append(Text(glance.problem, style="yellow"))
    if live and not glance.over:
        parts.append(Text("Ctrl-C ends the looking; the run goes on", style="dim"))
    return Group(*parts)


def _head(glance: Glance) -> Text:
    assert glance.row is not None
    row = glance.row
    text = Text(overflow="ellipsis", no_wrap=True)
    text.append(row.name, style="bold")
    text.append("  ")
    text.append(row.state, style=f"bold {COLOURS.get(row.state, 'green' if row.state == 'finished' else '')}".strip())
    if row.detail:
        text.append(f" ({row.detail})")
    where = f"Slurm {row.job_id}" + (f" on {row.nodes}" if row.nodes else "") if row.job_id else row.host
    workers = len(glance.beats)
    facts = [
        f"{workers} worker{'' if workers == 1 else 's'}" if glance.beats and row.state == "running" else None,
        where,
        f"{row.starts} start{'' if row.starts == 1 else 's'}",
        f"{row.restarts} restart{'' if row.restarts == 1 else 's'}",
    ]
    text.append("  " + " · ".join(fact for fact in facts if fact), style="dim")
    return text


def _progress(glance: Glance) -> list[RenderableType]:
    assert glance.row is not None
    row = glance.row
    if row.step is None:
        return [Text("no step yet", style="dim")]
    facts = [f"step {row.step:,}" + (f" of {row.of:,}" if row.of else "")]
    epoch = _epoch(row.epoch, row.epochs, row.state)
    if epoch:
        facts.insert(0, epoch)
    if row.state == "running":
        if glance.steps_per_s:
            rate, unit = (glance.steps_per_s * glance.batch_size, "samples") if glance.batch_size else (glance.steps_per_s, "steps")
            facts.append(f"{rate:,.0f} {unit}/s")
        facts.append(f"{duration(glance.left_s)} left" if glance.left_s is not None else "time left unknown")
    line = Text(" · ".join(facts))
    if glance.waiting:
        line.append(f" · waiting for data {100 * sum(glance.waiting.values()) / len(glance.waiting):.0f} %")
    bars: list[RenderableType] = [_Bar(row.step, row.of)] if row.of else []
    return [*bars, line]


def _epoch(epoch: int | None, epochs: int | None, state: str) -> str | None:
    """While it runs the epoch that is open, counted from 1; then the epochs that are done."""
    if epoch is None:
        return None
    shown = epoch + 1 if state == "running" and (epochs is None or epoch < epochs) else epoch
    return f"epoch {shown}" + (f" of {epochs}" if epochs is not None else "")


class _Bar:
    """A bar as wide as there is room."""

    def __init__(self, done: int, of: int) -> None:
        self.done, self.of = done, of

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield ProgressBar(total=self.of, completed=min(self.done, self.of), width=max(10, min(options.max_width, 100)))
        yield Segment.line()


class _Curve:
    """A small curve, as wide as there is room."""

    def __init__(self, values: Iterable[float], style: str) -> None:
        self.values, self.style = list(values), style

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = max(4, options.max_width)
        lines = [plain(self.values, width)] if options.ascii_only else braille(self.values, width, CURVE_HEIGHT)
        yield Text("\n".join(lines), style=self.style, no_wrap=True, overflow="crop")


def _curves(glance: Glance) -> list[RenderableType]:
    """Loss and the first metric, of training and of validation, side by side."""
    known = [name for split in ("valid", "epoch", "train") for name in glance.newest.get(split, {})]
    left_out = ("loss", "time", "attempt", "step", "epoch", "split", "grad_norm", "skipped")
    metrics = [name for name in known if name not in left_out and not name.startswith("lr")]
    first = "accuracy" if "accuracy" in metrics else next(iter(metrics), None)
    drawn = [cell for name in ("loss", first) if name for cell in _curves_of(glance, name)]
    if not drawn:
        return [Text("nothing measured yet", style="dim"), Text("")]
    table = Table.grid(padding=(0, 2), expand=True)
    table.add_column(ratio=1)
    table.add_column(ratio=1)
    for start in range(0, len(drawn), 2):
        table.add_row(*drawn[start : start + 2])
    return [table, *_result(glance), Text("")]


def _curves_of(glance: Glance, name: str) -> list[RenderableType]:
    found: list[RenderableType] = []
    for split, word, style in SPLITS:
        values = glance.curves.get((split, name))
        if not values or (split == "epoch" and ("train", name) in glance.curves):
            continue
        head = Text(f"{word} {name.replace('_', ' ')} ", no_wrap=True, overflow="ellipsis")
        head.append(figure(name, values[-1]), style=f"bold {style}")
        found.append(Group(head, _Curve(values, style)))
    return found


def _result(glance: Glance) -> list[RenderableType]:
    """What the test set said, once it was looked at."""
    row = glance.newest.get("test")
    if not row:
        return []
    figures = {key: value for key, value in row.items() if key not in ("time", "attempt", "step", "epoch", "split")}
    said = " · ".join(f"{key.replace('_', ' ')} {figure(key, value)}" for key, value in figures.items())
    return [Text(f"test  {said}", style="bold green")]


def _ranks(glance: Glance) -> list[RenderableType]:
    if not glance.beats or glance.over:
        return []
    has_gpu = any(number(beat.get("gpu_bytes")) is not None for beat in glance.beats)
    heads = ["rank", "phase", "step", "CPU", "memory", *(["GPU memory"] if has_gpu else []), "waits for data", "moved"]
    table = Table(*heads, box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for beat in glance.beats[:SHOWN_RANKS]:
        table.add_row(*_rank(beat, glance, has_gpu))
    more = len(glance.beats) - SHOWN_RANKS
    return [table, *([Text(f"and {more} more", style="dim")] if more > 0 else []), Text("")]


def _rank(beat: dict[str, Any], glance: Glance, has_gpu: bool) -> list[str]:
    rank = whole(beat.get("rank")) or 0
    cpu, memory, gpu = (number(beat.get(name)) for name in ("cpu_percent", "rss_bytes", "gpu_bytes"))
    at, now, moved = (number(beat.get(name)) for name in ("time", "monotonic", "moved"))
    still = None if at is None or now is None or moved is None else glance.now - at + now - moved
    waits = glance.waiting.get(rank)
    return [
        str(rank),
        str(beat.get("phase", "-"))[:12],
        str(beat.get("step", "-"))[:12],
        "-" if cpu is None else f"{cpu:.0f} %",
        size(memory),
        *([size(gpu)] if has_gpu else []),
        "-" if waits is None else f"{100 * waits:.0f} %",
        "-" if still is None else ago(still),
    ]


def _saves(glance: Glance) -> list[RenderableType]:
    if not glance.saves:
        return [Text("no checkpoint yet", style="dim")]
    last = glance.saves[-1]
    at, took, stall = number(last.get("time")), number(last.get("seconds")), number(last.get("stall_s"))
    facts = [
        None if at is None else ago(glance.now - at),
        None if took is None else f"written in {duration(took)}",
        None if stall is None else f"training stopped for {1000 * stall:.0f} ms",
    ]
    said = ", ".join(fact for fact in facts if fact)
    return [Text(f"checkpoint {last.get('checkpoint')}: {said}", no_wrap=True, overflow="ellipsis")]


def _events(glance: Glance) -> list[RenderableType]:
    return [_event(row) for row in glance.events]


def _event(row: dict[str, Any]) -> Text:
    name = str(row.get("event", "-"))
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f"{moment(row.get('time'), day=False)} ", style="dim")
    text.append(name, style={"failed": "red", "restarted": "yellow", "finished": "green"}.get(name, ""))
    text.append(f"  {what_happened(row)}", style="dim")
    return text
