"""The curves as PNG pictures, for slides and papers. Matplotlib is asked for only here."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from launcher.report.apart import styles
from launcher.report.classes import matrix_of, names_of
from launcher.report.curves import figures
from launcher.report.read import RunData
from launcher.report.series import thin
from trainer.errors import ConfigError

GREY = "#9aa1a9"
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
    taken: set[str] = set()
    made = [_metric(runs, name, folder, taken) for name in [*figures(runs), "lr", "grad_norm"]]
    for run in runs:
        before = f"{run.name.replace('/', '_')}-" if len(runs) > 1 else ""
        made += [_confusion(found, folder, f"{before}confusion-{split}", taken) for split, found in run.evaluations.items()]
    return [name for name in made if name]


def _figure(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(made)  # no window, whatever the machine has
    return made, made.subplots()


def _metric(runs: Sequence[RunData], name: str, folder: Path, taken: set[str]) -> str | None:
    picture, axes = _figure(7, 4)
    styled = styles(runs)
    for run, style in zip(runs, styled, strict=True):
        for split, place, width, word in SPLITS:
            series = run.curves.get((split, name))
            if series is None or not len(series) or (len(runs) > 1 and split == "train" and (("valid", name) in run.curves)):
                continue
            xs, ys = zip(*thin(series), strict=True)
            if len(runs) == 1:
                look = _look(place, width, word)
            else:
                beside = split != "valid" and ("valid", name) in run.curves
                look = _look(style, 0.8 if beside else width, f"{run.name}, {word}", solid=beside)
            axes.plot(xs, ys, **look)
    if not axes.lines:
        return None
    if None in styled:
        axes.plot([], [], **{**_look(None, 0.7, ""), "label": f"the other {styled.count(None)}"})
    axes.set_xlabel("step")
    axes.set_ylabel(name.replace("_", " ").replace("$", r"\$"))
    axes.grid(color="#e9ebee")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    path = folder / _file(name, taken)
    picture.savefig(path)
    return path.name


def _look(style: int | None, width: float, label: str, *, solid: bool = False) -> dict[str, Any]:
    """How a curve is drawn; without a style as one of many that look alike, behind the others and without a place in the legend."""
    if style is None:
        return {"color": GREY, "linewidth": 0.7, "label": "_", "zorder": 1.8}
    dash = "-" if solid else DASHES[style % 8]
    return {"color": COLOURS[style % 8], "linestyle": dash, "linewidth": width, "label": label.replace("$", r"\$")}


def _confusion(found: dict[str, Any], folder: Path, name: str, taken: set[str]) -> str | None:
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
    path = folder / _file(name, taken)
    picture.savefig(path)
    return path.name


def _file(name: str, taken: set[str]) -> str:
    """A picture's file: its name in letters that each system takes, and a number where another picture has that already."""
    plain = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name)
    names = (f"{plain}{more}.png" for more in ("", *(f"-{number}" for number in range(2, len(taken) + 3))))
    free = next(name for name in names if name.casefold() not in taken)
    taken.add(free.casefold())
    return free
