"""Where numbers go: JSONL always; TensorBoard and Weights & Biases if wanted. JSONL is the truth, and the others follow it."""

from __future__ import annotations

import itertools
import json
import logging
from typing import TYPE_CHECKING, Any

from trainer.data.names import reason
from trainer.files import finite
from trainer.metrics.board import Board
from trainer.metrics.options import curves, scalar_options
from trainer.metrics.table import write_table
from trainer.metrics.weights_biases import WeightsAndBiases
from trainer.rundir import RunDir, append_jsonl, read_jsonl, write_atomic

if TYPE_CHECKING:
    from trainer.build import Job

log = logging.getLogger("trainer")


class MetricsWriter:
    """Writes rows on rank 0.

    Args:
        run: the run folder.
        tensorboard: also write TensorBoard's event files.
        attempt: stands in each row.
        first_step: the step that this attempt goes on from.
        whole: all that belongs to `first_step` is drawn already: its epoch is closed, and is not the last. Otherwise TensorBoard forgets
            what was drawn there, and the rows that are left of that step are drawn anew.
        wandb: where else the rows go.
    """

    def __init__(
        self, run: RunDir, tensorboard: bool, attempt: int, first_step: int, *, whole: bool = False, wandb: WeightsAndBiases | None = None
    ) -> None:
        self.run, self.attempt, self.whole, self.wandb = run, attempt, whole, wandb
        kept = list(read_jsonl(run.metrics))
        self.rows = len(kept)
        self.board = Board(run.tensorboard, first_step + whole) if tensorboard else None
        for row in [] if whole else kept:
            if row["step"] == first_step:
                self.curves(first_step, curves(row), row["time"])

    def row(self, now: float, split: str, step: int, epoch: int, values: dict[str, Any]) -> None:
        """Write one row of metrics, e.g. split ``train``, values ``{"loss": 0.1, "lr": 0.05}``; NaN, which JSON lacks, is null."""
        row = {"time": round(now, 3), "attempt": self.attempt, "step": step, "epoch": epoch, "split": split, **finite(values)}
        append_jsonl(self.run.metrics, row)
        self.rows += 1
        drawn = curves(row)
        self.curves(step, drawn, now)
        if self.wandb is not None and drawn:
            self.wandb.row(step, {"epoch": epoch, **drawn})

    def curves(self, step: int, values: dict[str, float], at: float | None = None) -> None:
        """Draw points in TensorBoard only."""
        if self.board is not None:
            self.board.scalars(step, values, at)

    def close(self) -> None:
        """Write what is held, and the rows as a table."""
        for follower in (self.board, self.wandb):
            if follower is not None:
                follower.close()
        try:
            write_table(self.run)
        except Exception as fault:  # whatever it is, it must not end a run that is done
            log.warning(
                "%s could not be written (%s); metrics.jsonl is whole",
                self.run.metrics_table,
                getattr(fault, "strerror", None) or reason(fault),
            )


def open_writer(run: RunDir, job: Job, attempt: int) -> MetricsWriter:
    """The writer that a job's config asks for, for what comes after the job's present state."""
    config, state, stop = job.config, job.state, job.config.train.early_stop
    over = state.step >= job.total_steps or (stop is not None and state.bad_epochs >= stop.patience)
    whole = state.step > 0 and state.epoch_step == 0 and not over
    project = config.log.wandb
    wandb = WeightsAndBiases(run, project, scalar_options(config)) if project is not None else None
    return MetricsWriter(run, config.log.tensorboard, attempt, state.step, whole=whole, wandb=wandb)


def keep_rows(run: RunDir, count: int) -> None:
    """Cut ``metrics.jsonl`` back to its first rows: those of the checkpoint that is resumed, so that no step stands there twice."""
    if not run.metrics.exists():
        return
    rows = list(itertools.islice(read_jsonl(run.metrics), count))
    if len(rows) < count:
        log.warning(f"{run.metrics}: {count - len(rows)} of the {count} rows before this checkpoint are gone")
    kept = "".join(json.dumps(row) + "\n" for row in rows).encode()
    if kept != run.metrics.read_bytes():
        write_atomic(run.metrics, kept)
