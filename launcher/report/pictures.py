"""The curves as PNG pictures, for slides and papers. Matplotlib is asked for only here."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from launcher.report.classes import matrix_of, names_of
from launcher.report.curves import figures
from launcher.report.read import RunData
from launcher.report.series import thin
from trainer.errors import ConfigError

COLOURS = ("#0a66b0", "#c2500a", "#00795a", "#a83f86", "#7a5c00", "#5a50c0", "#4a4f55", "#b32b3c")
DASHES = ("-", "--", ":", "-.", (0, (4, 2)), (0, (12, 4)), (0, (6, 2, 2, 2)), (0, (1, 2)))
SPLITS = (("train", 0, 0.7, "training, each logged step"), ("epoch", 0, 2.0, "training"), ("valid", 1, 2.0, "validation"))
MOST_NAMES = 30


def need_matplotlib() -> None:
    """See that it is there, before anything is made.

    Raises:
        ConfigError: it is not.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError("command line: --png: needs matplotlib, which is not installed; pip install 'ostinato[report]'")


def draw(runs: Sequence[RunData], folder: Path) -> list[str]:
    """Draw a picture of each metric, of the learning rate, and of each confusion matrix; the files' names."""
    made = [_metric(runs, name, folder) for name in [*figures(runs), "lr", "grad_norm"]]
    for run in runs:
        before = f"{_plain(run.name)}-" if len(runs) > 1 else ""
        made += [_confusion(found, folder / f"{before}confusion-{split}.png") for split, found in run.evaluations.items()]
    return [name for name in made if name]


def _figure(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(made)  # no window, whatever the machine has
    return made, made.subplots()


def _metric(runs: Sequence[RunData], name: str, folder: Path) -> str | None:
    picture, axes = _figure(7, 4)
    drawn = 0
    for number, run in enumerate(runs):
        for split, style, width, word in SPLITS:
            series = run.curves.get((split, name))
            if series is None or not len(series) or (len(runs) > 1 and split == "train" and (("valid", name) in run.curves)):
                continue
            points = thin(series)
            which = number if len(runs) > 1 else style
            label = f"{run.name}, {word}" if len(runs) > 1 else word
            dash = DASHES[which % 8] if len(runs) == 1 or split == "valid" else "-"
            xs, ys = zip(*points, strict=True)
            axes.plot(xs, ys, color=COLOURS[which % 8], linestyle=dash, linewidth=width, label=label.replace("$", r"\$"))
            drawn += 1
    if not drawn:
        return None
    axes.set_xlabel("step")
    axes.set_ylabel(name.replace("_", " ").replace("$", r"\$"))
    axes.grid(color="#e9ebee")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    path = folder / f"{_plain(name)}.png"
    picture.savefig(path)
    return path.name


def _confusion(found: dict[str, Any], path: Path) -> str | None:
    matrix = matrix_of(found)
    if matrix is None:
        return None
    shares = [[cell / (sum(row) or 1) for cell in row] for row in matrix]
    side = min(12.0, 2.5 + 0.4 * len(matrix))
    picture, axes = _figure(side, side)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xlabel("said")
    axes.set_ylabel("true")
    if len(matrix) <= MOST_NAMES:
        names = [name.replace("$", r"\$") for name in names_of(found, len(matrix))]
        axes.set_xticks(range(len(matrix)), names, rotation=90)
        axes.set_yticks(range(len(matrix)), names)
        for y, row in enumerate(matrix):
            for x, cell in enumerate(row):
                if cell:
                    axes.text(x, y, cell, ha="center", va="center", fontsize=7, color="white" if shares[y][x] > 0.6 else "black")
    picture.savefig(path)
    return path.name


def _plain(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name)
