"""What is asked of the launcher by signals, from its first moment to its last (free of torch)."""

from __future__ import annotations

import os
import signal
import sys
import time
from types import FrameType

from trainer.errors import STOPPED
from trainer.stop import SIGNALS

INTERRUPTED = 128 + signal.SIGINT


def listen_early() -> None:
    """Until `Requests` listens there is nothing to stop: a request to ``ostinato train`` ends the process with 75."""
    if sys.argv[1:2] == ["train"]:
        for number in SIGNALS:
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, _leave)


def _leave(number: int, frame: FrameType | None) -> None:
    os._exit(STOPPED)


class Requests:
    """Listens, as a context, for requests to stop. What is ignored (``nohup``) stays ignored.

    A request is only noted: the workers are asked, save, and leave. While there are none yet, the start is not carried through.
    """

    def __init__(self) -> None:
        self.signals: list[int] = []
        self.since: float | None = None
        self.workers_run = False
        self._before: dict[int, object] = {}

    @property
    def stop(self) -> bool:
        """Whether a stop is requested."""
        return bool(self.signals)

    @property
    def abandoned(self) -> bool:
        """Whether the user has insisted: a second SIGINT."""
        return self.signals.count(signal.SIGINT) > 1

    def __enter__(self) -> Requests:
        for number in (signal.SIGINT, signal.SIGHUP, *SIGNALS):
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *fault: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)  # type: ignore[arg-type]

    def pause(self, seconds: float) -> None:
        """Wait, but not longer than until something is asked."""
        end = time.monotonic() + seconds
        while not self.stop and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signals.append(number)
        if self.since is None:
            self.since = time.monotonic()
        if self.abandoned and not self.workers_run:
            os._exit(INTERRUPTED)
