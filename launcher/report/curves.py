"""Which charts a report shows, for one run and for several side by side. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from launcher.report.apart import note, styles
from launcher.report.chart import Kind, Line, chart, kind_of
from launcher.report.markup import Markup, join, tag
from launcher.report.read import RunData
from launcher.report.series import Point, Series, smooth_rate, split_at_gaps, thin

NAMES = {"train": "training, each logged step", "epoch": "training, mean of an epoch", "valid": "validation", "test": "test"}
STYLES = {"train": 0, "epoch": 0, "valid": 1, "test": 2}
FEW = 60
"""Up to so many points each one is marked."""
FIRST = ("loss", "accuracy")
MOST_GROUPS = 8


def figures(runs: Sequence[RunData]) -> list[str]:
    """The metrics of some runs: loss, accuracy, then the others as they come."""
    known = [name for run in runs for split, name in run.curves if split != "train" or name not in ("grad_norm", "skipped")]
    rest = [name for name in dict.fromkeys(known) if not name.startswith("lr") and name not in FIRST]
    return [*(name for name in FIRST if name in known), *rest]


def metric_charts(runs: Sequence[RunData]) -> Markup:
    """Loss and metrics, learning rates, gradient norm, pace."""
    charts = [_of_one(runs[0], name) for name in figures(runs)] if len(runs) == 1 else [_overlaid(runs, name) for name in figures(runs)]
    charts += [_learning_rates(runs), _of_training(runs, "grad_norm", "Gradient norm", "before clipping"), _pace(runs)]
    charts += [_of_training(runs, "skipped", "Updates left out", "gradients that were not finite")]
    said = note(runs)
    return join([tag("p", said, class_="note") if said else None, _charts(charts)])


def _charts(charts: Sequence[Markup]) -> Markup:
    there = [made for made in charts if made]
    return tag("div", *there, class_="charts") if there else tag("p", "Nothing has been measured yet.")


def _title(name: str) -> str:
    plain = name.replace("_", " ").replace("/", ", ")
    return {"lr": "Learning rate", "f1": "F1, mean of the classes", "r2": "R²"}.get(name, plain[:1].upper() + plain[1:])


def _line(name: str, series: Series, style: int | None, faint: bool = False) -> Line:
    points, faint = thin(series), faint or style is None
    return Line(name, points, style, faint, dots=not faint and len(points) <= FEW, last=series.last())


def _of_one(run: RunData, figure: str) -> Markup:
    there = [split for split in NAMES if len(run.curves.get((split, figure), ()))]
    lines = [_line(NAMES[split], run.curves[split, figure], STYLES[split], split == "train" and "epoch" in there) for split in there]
    return chart(_title(figure), lines, kind_of(figure), logs=figure.endswith("loss"))


def _overlaid(runs: Sequence[RunData], figure: str) -> Markup:
    """The validation's curve of each run; the training's where nothing is validated."""
    found, styled = [], list(zip(runs, styles(runs), strict=True))
    for split in ("valid", "epoch", "train"):
        there = [(run, style) for run, style in styled if len(run.curves.get((split, figure), ()))]
        lines = [_line(run.name, run.curves[split, figure], style) for run, style in there]
        if lines:
            found.append(chart(f"{_title(figure)}, {NAMES[split].partition(',')[0]}", lines, kind_of(figure), logs=figure.endswith("loss")))
        if len(found) == (2 if figure == "loss" else 1):
            break
    return join(found)


def _learning_rates(runs: Sequence[RunData]) -> Markup:
    lines = []
    for run, style in zip(runs, styles(runs), strict=True):
        names = sorted({name for split, name in run.curves if split == "train" and (name == "lr" or name.startswith("lr/"))})
        for place, name in enumerate(names[:MOST_GROUPS]):
            group = name.partition("/")[2]
            said = " ".join(filter(None, (run.name if len(runs) > 1 else "", group or ("" if len(runs) > 1 else "learning rate"))))
            lines.append(_line(said, run.curves["train", name], style if len(runs) > 1 else place))
    return chart("Learning rate", lines, zero=True)


def _of_training(runs: Sequence[RunData], figure: str, title: str, about: str) -> Markup:
    there = [(run, style) for run, style in zip(runs, styles(runs), strict=True) if len(run.curves.get(("train", figure), ()))]
    if figure == "skipped" and not any(run.curves["train", figure].last() for run, _ in there):
        return Markup("")
    return chart(
        title,
        [_line(run.name if len(runs) > 1 else title.lower(), run.curves["train", figure], style) for run, style in there],
        about=about,
        logs=True,
    )


def pace(run: RunData) -> list[Point]:
    """Steps for each second, over the steps; pauses between attempts are none of them."""
    points = [(at, step) for at, step in zip(run.clock.x, run.clock.y, strict=True) if step == step]
    begun = sorted(
        at for row in run.events if row.get("event") in ("started", "resumed") and isinstance(at := row.get("time"), (int, float))
    )
    found: list[Point] = []
    bounds = [float("-inf"), *begun, float("inf")]
    part = 0
    piece: list[Point] = []
    for at, step in points:
        while at >= bounds[part + 1]:
            found.extend(_rates(piece))
            piece, part = [], part + 1
        piece.append((at, step))
    return [*found, *_rates(piece)]


def _rates(piece: Sequence[Point]) -> list[Point]:
    every = max(1, len(piece) // 300)
    some = piece[::every]
    return smooth_rate([at for at, _ in some], [step for _, step in some])


def _pace(runs: Sequence[RunData]) -> Markup:
    lines = []
    for run, style in zip(runs, styles(runs), strict=True):
        batch = (run.settings.get("data") or {}).get("batch_size")
        samples = batch if isinstance(batch, int) and not isinstance(batch, bool) else None
        series = Series()
        for step, rate in pace(run):
            series.add(step, rate * (samples or 1))
        if len(series):
            lines.append(_line(run.name if len(runs) > 1 else ("samples a second" if samples else "steps a second"), series, style))
    return chart("Pace", lines, about="samples a second between logged steps, evaluations and saves included", zero=True)


SYSTEM = {
    "cpu_percent": ("CPU", "percent", "of one core, by rank"),
    "rss_bytes": ("Memory of the processes", "bytes", "resident, by rank"),
    "gpu_bytes": ("GPU memory", "bytes", "allocated by torch, by rank"),
    "waiting_share": ("Waiting for data", "share", "share of the time in training steps, by rank"),
    "memory_available_bytes": ("Memory that is left on the machine", "bytes", "rank 0's machine"),
}


def system_charts(run: RunData) -> Markup:
    """What the machine did, over the time since the run was created."""
    charts = []
    for name, (title, kind, about) in SYSTEM.items():
        ranks = run.system.get(name, {})
        lines = []
        for rank, series in sorted(ranks.items())[:8]:
            points = split_at_gaps(thin(series), least=10.0)
            lines.append(Line(f"rank {rank}" if len(ranks) > 1 else title.lower(), points, rank, last=series.last()))
        more = f"; the first 8 of {len(ranks)} ranks" if len(ranks) > 8 else ""
        charts.append(chart(title, lines, Kind(kind, "seconds"), about=about + more, zero=True))
    return _charts(charts)
