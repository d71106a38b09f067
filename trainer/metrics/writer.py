"""Where numbers go: JSONL always, TensorBoard if wanted. JSONL is the truth; TensorBoard can be made again from it."""

from __future__ import annotations

import itertools
import json
import logging
import math
import threading
from typing import Any

from trainer.rundir import RunDir, append_jsonl, make_private, read_jsonl, write_atomic

log = logging.getLogger("trainer")


class MetricsWriter:
    """Writes rows on rank 0.

    Args:
        run: the run folder.
        tensorboard: also write TensorBoard's event files.
        attempt: stands in each row.
        first_step: TensorBoard forgets what an earlier attempt wrote beyond this step.
    """

    def __init__(self, run: RunDir, tensorboard: bool, attempt: int, first_step: int) -> None:
        self.run, self.attempt, self.first_step = run, attempt, first_step
        self.rows = sum(1 for _ in read_jsonl(run.metrics))
        self._wanted = tensorboard
        self._board: Any = None
        self._lock = threading.Lock()  # the heartbeat's thread writes the system's curves

    def row(self, now: float, split: str, step: int, epoch: int, values: dict[str, Any]) -> None:
        """Write one row of metrics, e.g. split ``train``, values ``{"loss": 0.1, "lr": 0.05}``; NaN, which JSON lacks, is null."""
        values = {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values.items()}
        position = {"time": round(now, 3), "attempt": self.attempt, "step": step, "epoch": epoch, "split": split}
        append_jsonl(self.run.metrics, {**position, **values})
        self.rows += 1
        self.curves(step, {f"{name}/{split}": value for name, value in values.items() if isinstance(value, (int, float))})

    def curves(self, step: int, values: dict[str, float]) -> None:
        """Draw points in TensorBoard only. It never stops training: on the first fault it is given up, and said."""
        if not self._wanted:
            return
        try:
            with self._lock:
                if self._board is None:
                    self._board = self._open_board()
                for tag, value in values.items():
                    self._board.add_scalar(tag, value, step)
        except Exception as fault:
            self._wanted = False
            log.warning("TensorBoard is given up (%s: %s); metrics.jsonl goes on", type(fault).__name__, fault)

    def _open_board(self) -> Any:
        from torch.utils.tensorboard import SummaryWriter  # late: not before the first step

        make_private(self.run.tensorboard)
        board = SummaryWriter(str(self.run.tensorboard), purge_step=self.first_step + 1)
        for file in self.run.tensorboard.iterdir():
            if not file.is_symlink():
                file.chmod(0o600)
        return board

    def close(self) -> None:
        """Write what is held."""
        if self._board is not None:
            try:
                self._board.close()
            except Exception as fault:
                log.warning("TensorBoard could not be closed: %s", fault)


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
