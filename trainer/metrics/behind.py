"""Work for the logs behind the loop's back: a thread of its own, one piece after the other; the first fault ends it, and is said once."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

from trainer.data.names import reason

log = logging.getLogger("trainer")

Work = Callable[[], object]
QUIET_S = 1.0


class Behind:
    """Carries out what it is given, in order, and never stops training.

    Args:
        what: what the work is for, as it is called in a message: ``TensorBoard``.
        settle: called when there was nothing to do for a second after some work: what was written then goes to disk.
    """

    def __init__(self, what: str, settle: Work | None = None) -> None:
        self.what, self.settle = what, settle
        self.given_up = False
        self._queue: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def later(self, work: Work) -> None:
        """Put a piece of work at the end of the queue; this costs microseconds."""
        if self.given_up:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self.what, daemon=True)
            self._thread.start()
        self._queue.put(work)

    def now(self, work: Work) -> None:
        """Carry out a piece of work in the caller's thread, not at the same time as any other."""
        with self._lock:
            self._do(work)

    def close(self, last: Work, limit_s: float) -> None:
        """Carry out what is left and then `last`; after the limit training's end does not wait any longer."""
        if self._thread is None:
            return
        self._queue.put(last)
        self._queue.put(None)
        self._thread.join(limit_s)
        if self._thread.is_alive():
            log.warning("%s did not end within %g s and is left as it is; metrics.jsonl is whole", self.what, limit_s)

    def _run(self) -> None:
        unsettled = False
        while True:
            try:
                work = self._queue.get(timeout=QUIET_S if unsettled and self.settle is not None else None)
                unsettled = True
            except queue.Empty:
                work, unsettled = self.settle, False
            if work is None:
                return
            self.now(work)

    def _do(self, work: Work) -> None:
        if self.given_up:
            return
        try:
            work()
        except (Exception, SystemExit) as fault:
            self.given_up = True
            log.warning("%s is given up (%s); metrics.jsonl goes on", self.what, reason(fault))
