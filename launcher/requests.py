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
# Left of a job's time when its workers are ended: to say how far the run came, and to stand in the queue again.
SPARE_S = 5.0


def listen_early() -> None:
    """Until `Requests` listens there is nothing to stop: a request to ``train`` or ``resume`` ends the process with 75.

    The first process of a container hears nothing that it does not listen to, so there every command listens, and leaves.
    """
    begins = sys.argv[1:2] in (["train"], ["resume"])
    for number in SIGNALS if begins or os.getpid() == 1 else ():
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _leave)


def _leave(number: int, frame: FrameType | None) -> None:
    os._exit(STOPPED if sys.argv[1:2] in (["train"], ["resume"], ["sweep"]) else 128 + number)


class Requests:
    """Listens, as a context, for requests to stop. What is ignored (``nohup``) stays ignored.

    A request is only noted: the workers are asked, save, and leave. While there are none yet, the start is not carried through.

    ``time_limit`` is a job's that has one, on the monotonic clock: from when on a USR2 means that time is nearly up, and when it is.
    """

    def __init__(self) -> None:
        self.signals: list[int] = []
        self.since: float | None = None
        self.workers_run = False
        self.time_limit: tuple[float, float] | None = None
        self._before: dict[int, object] = {}

    @property
    def stop(self) -> bool:
        """Whether a stop is requested."""
        return bool(self.signals)

    @property
    def abandoned(self) -> bool:
        """Whether the user has insisted: a second SIGINT."""
        return self.signals.count(signal.SIGINT) > 1

    @property
    def time_is_up(self) -> bool:
        """Whether a stop is requested because the job's time is nearly up."""
        near = self.time_limit is not None and self.since is not None and self.since >= self.time_limit[0]
        return near and signal.SIGUSR2 in self.signals

    def leave_by(self, grace_s: float) -> float:
        """When all must have left, on the monotonic clock: whoever asked kills us next, and then nobody says how far the run came.

        Args:
            grace_s: how long a stop may take. Where the job's time is what ends, they have what is left of it.
        """
        by = (time.monotonic() if self.since is None else self.since) + grace_s - min(2.0, grace_s / 10)
        return max(by, self.time_limit[1] - min(SPARE_S, grace_s)) if self.time_limit is not None and self.time_is_up else by

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
