"""The request to stop: a signal sets a flag in the worker that got it. (`trainer.agreement` makes it everyone's.) Free of torch."""

from __future__ import annotations

import os
import signal
from types import FrameType

from trainer.errors import STOPPED

PAUSE = "run.pause_after_epoch"
"""Why a run has stopped that nobody asked to; it is stopped on purpose, and nothing starts it again by itself."""
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


class StopRequest:
    """The signals that ask for a checkpoint and an end; `by` names the first one that came.

    Until training begins there is nothing to save, and a request ends the process at once with exit code 75.
    """

    def __init__(self) -> None:
        self.by: str | None = None
        self.training = False

    def listen(self) -> None:
        """Listen from now on. Under our launcher Ctrl-C is the launcher's to handle: it asks the workers by SIGTERM."""
        for number in SIGNALS:
            signal.signal(number, self._ask)
        launched = os.environ.get("OSTINATO_LAUNCHED") == "1"
        signal.signal(signal.SIGINT, signal.SIG_IGN if launched else self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if not self.training:
            os._exit(STOPPED)
        if number == signal.SIGINT and self.by == "SIGINT":
            os._exit(128 + number)  # a second Ctrl-C: leave now
        self.by = self.by or signal.Signals(number).name


# One a process, since signals are: a worker listens from its first moment, long before there is a job.
REQUEST = StopRequest()
