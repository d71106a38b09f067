"""TensorBoard's event files: drawn in a thread of their own, from the truth that stands in ``metrics.jsonl``."""

from __future__ import annotations

import contextlib
import io
import logging
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.data.names import reason
from trainer.files import make_private
from trainer.metrics.behind import Behind

if TYPE_CHECKING:
    import torch

log = logging.getLogger("trainer")

CLOSE_S, WAIT_S = 12.0, 10.0
BINS = 64


class Board:
    """What a run draws. Nothing here stops training: on the first fault TensorBoard is given up, and that is said.

    Args:
        folder: where the event files are.
        forget_from: TensorBoard forgets what earlier attempts drew at this step and beyond.
    """

    def __init__(self, folder: Path, forget_from: int) -> None:
        self.folder, self.forget_from = folder, forget_from
        self.behind = Behind("TensorBoard", self._flush)
        self._writer: Any = None
        self._one_at_a_time = threading.Semaphore()

    def scalars(self, step: int, values: Mapping[str, float], at: float | None = None) -> None:
        """Draw points; `at` is their time, in seconds since 1970."""
        at = time.time() if at is None else at

        def draw() -> None:
            for tag, value in values.items():
                self._open().add_scalar(tag, value, step, walltime=at)

        self.behind.later(draw)

    def picture(self, tag: str, step: int, draw: Callable[[], Any]) -> None:
        """Show a picture: `draw` gives its pixels, uint8 (height, width, 3); it is called in the thread, and must draw no random number."""
        self.behind.later(lambda: self._open().add_image(tag, draw(), step, dataformats="HWC"))

    def histograms(self, step: int, tensors: Sequence[tuple[str, torch.Tensor]]) -> None:
        """Show how the numbers of tensors are spread. They are copied to the CPU here.

        One set of copies is held at a time; where a disk is so slow that the set before is not drawn yet, this one is left out.
        """
        if self.behind.given_up or not self._one_at_a_time.acquire(timeout=WAIT_S):
            return
        copies = [(tag, tensor.detach().float().to("cpu", copy=True)) for tag, tensor in tensors]

        def draw() -> None:
            try:
                for tag, values in copies:
                    finite = values[values.isfinite()]
                    if len(finite):
                        self._open().add_histogram(tag, finite, step, bins=BINS)
            finally:
                self._one_at_a_time.release()

        self.behind.later(draw)

    def graph(self, model: torch.nn.Module, inputs: Any) -> None:
        """Show a model's graph. It is traced at once and not in the thread: a model may draw random numbers from the global generators."""

        def draw() -> None:
            writer = self._open()
            with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
                warnings.simplefilter("ignore")
                try:
                    writer.add_graph(model, (inputs,), use_strict_trace=False)
                except Exception as fault:  # the model's, so that everything else can still be drawn
                    log.warning("log.graph: the graph could not be drawn (%s)", reason(fault))

        self.behind.now(draw)

    def hparams(self, options: dict[str, Any], metrics: dict[str, float]) -> None:
        """Put the run into the table of runs: its options, and the metrics (tags of scalars) by which they are compared."""

        def draw() -> None:
            from torch.utils.tensorboard.summary import hparams

            writer = self._open()
            for summary in hparams(options, metrics):
                writer.file_writer.add_summary(summary)

        self.behind.later(draw)

    def close(self) -> None:
        """Write what is held."""

        def close() -> None:
            if self._writer is not None:
                self._writer.close()

        self.behind.close(close, CLOSE_S)

    def _open(self) -> Any:
        if self._writer is not None:
            return self._writer
        from torch.utils.tensorboard import SummaryWriter  # late: not before the first step

        make_private(self.folder)
        _keep_quiet()
        self._writer = SummaryWriter(str(self.folder), purge_step=self.forget_from)
        for file in self.folder.iterdir():
            if not file.is_symlink():
                file.chmod(0o600)
        return self._writer

    def _flush(self) -> None:
        if self._writer is not None:
            self._writer.flush()


def _keep_quiet() -> None:
    """TensorBoard's own thread prints a traceback when a disk is full; the fault reaches us as well, and one line says it."""
    usual = threading.excepthook
    if usual.__module__ == __name__:
        return

    def hook(fault: threading.ExceptHookArgs) -> None:
        if type(fault.thread).__module__ != "tensorboard.summary.writer.event_file_writer":
            usual(fault)

    threading.excepthook = hook
