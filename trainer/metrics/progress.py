"""What a person sees of a run: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from typing import Any


class Bar:
    """A progress bar over an epoch's steps, moved by the heartbeat's thread, never by the loop.

    Args:
        epochs: how many epochs the run has.
        total_steps: updates of the whole run.
    """

    def __init__(self, epochs: int, total_steps: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.epochs = epochs
        self.console = Console(file=sys.stdout)
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps"),
            TimeRemainingColumn(),
            console=self.console,
            auto_refresh=False,
            transient=True,
        )
        self.task: Any = self.progress.add_task("starting", total=total_steps)
        self.progress.start()

    def show(self, epoch: int, step: int) -> None:
        """Draw the present state."""
        self.progress.update(self.task, completed=step, description=f"epoch {min(epoch + 1, self.epochs)}/{self.epochs}")
        self.progress.refresh()

    def close(self) -> None:
        """Take the bar away."""
        self.progress.stop()


def epoch_line(epoch: int, epochs: int, step: int, train: dict[str, float], valid: dict[str, float], samples_per_s: float) -> str:
    """One epoch in one line for people: the loss and the task's first metric; the rows have all of them."""
    parts = [f"epoch {epoch}/{epochs}", f"step {step}", "train " + figures(brief(train))]
    if valid:
        parts.append("valid " + figures(brief(valid)))
    parts.append(f"{samples_per_s:,.0f} samples/s")
    return " · ".join(parts)


def brief(values: dict[str, float]) -> dict[str, float]:
    """The loss, and the first metric besides."""
    first = next((name for name in values if name != "loss"), None)
    return {name: value for name, value in values.items() if name in ("loss", first)}


def figures(values: dict[str, float]) -> str:
    """``loss 0.1234 accuracy 97.50%``."""
    return " ".join(f"{name} {value:.2%}" if name.endswith("accuracy") else f"{name} {value:.4f}" for name, value in values.items())
