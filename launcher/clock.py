"""A job's time: a stop is asked for before it is up, early enough for a last save."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Mapping

from launcher import slurm_query
from launcher.failure import Verdict
from launcher.requests import SPARE_S, Requests
from launcher.requeue import job_id
from launcher.sbatch import LEFT, SIGNAL_MARGIN
from trainer.config.load import load
from trainer.errors import LOST
from trainer.rundir import RunDir, read_jsonl

ASK_AGAIN_S = 10.0
# Slurm looks at the time once in a while: a signal before the end may come so much earlier than it was asked for.
SLURM_IS_EARLY_S = 60.0


class Clock:
    """Asks for a stop when the job's time is nearly up: Slurm's own signal comes up to a minute early or, at short limits, not at all.

    Args:
        folder: the run folder.
        requests: what was asked of this process; it learns how long there is.
        asks: ask for the stop; the other nodes hear of it from node 0's workers, and have to know no more than how long there is.
    """

    def __init__(self, folder: RunDir, requests: Requests, *, asks: bool) -> None:
        self.folder, self.requests, self.asks = folder, requests, asks
        self.grace_s = 0.0
        self.ends_at: float | None = None
        self.had_s = 0.0
        self.done = threading.Event()

    def start(self) -> None:
        """Watch the time from now on."""
        self.grace_s = load(self.folder.config).config.supervision.grace_s
        if job_id() is not None:
            threading.Thread(target=self._watch, name="clock", daemon=True).start()

    def reason(self, verdict: Verdict) -> str:
        """Why this turn is over."""
        if verdict.exit_code == LOST:
            return "lost"
        if self.requests.time_is_up:
            return "time limit"
        return signal.Signals(self.requests.signals[0]).name if self.requests.signals else "stopped"

    def _watch(self) -> None:
        """Ask Slurm what is left, and again before the alarm: somebody may have given the job more time.

        Meanwhile saves are measured: what is needed grows with them.
        """
        while True:
            left_s = self._left_s()
            if left_s is None or left_s <= 0:
                if not self._ask():
                    return
                left_s = self._left_s()
            if left_s is not None and left_s <= 0:
                break
            if self.done.wait(ASK_AGAIN_S if left_s is None else min(left_s, ASK_AGAIN_S)):
                return
        if self.asks:
            os.kill(os.getpid(), signal.SIGUSR2)

    def _left_s(self) -> float | None:
        """Until a stop is to be asked for; None: that is not known."""
        if self.ends_at is None:
            return None
        needed_s = needed(self.grace_s, save_seconds(self.folder), self.had_s)
        self.requests.time_limit = (self.ends_at - max(needed_s, SIGNAL_MARGIN * self.grace_s) - SLURM_IS_EARLY_S, self.ends_at)
        return self.ends_at - time.monotonic() - needed_s

    def _ask(self) -> bool:
        """Ask Slurm; False: the job's time is not limited."""
        job = slurm_query.ask([str(job_id())]).jobs.get(str(job_id()))
        if job is not None:
            if job.left_s is None:
                return False
            self.had_s = self.had_s or float(job.left_s)
            self.ends_at = time.monotonic() + job.left_s
        elif self.ends_at is None and (end := told(os.environ)) is not None:  # nobody answers, as in a container
            self.had_s = max(0.0, end - time.time())
            self.ends_at = time.monotonic() + self.had_s
        return True


def told(variables: Mapping[str, str]) -> float | None:
    """When this turn ends, in seconds of the epoch, by what the job's script or Slurm said at its beginning; None: neither did. Pure."""
    asked_at, _, left = variables.get(LEFT, "").partition(" ")
    left_s = slurm_query.seconds(left)
    if asked_at.isdecimal() and left_s is not None:
        return float(asked_at) + left_s
    end = variables.get("SLURM_JOB_END_TIME", "")
    return float(end) if end.isdecimal() else None


def needed(grace_s: float, save_s: float, had_s: float) -> float:
    """How long before the end of a turn a stop is asked for. Pure.

    Args:
        grace_s: how long a stop may take.
        save_s: the slowest save so far.
        had_s: the turn's time: half of it is left for training, whatever a save takes.
    """
    return min(grace_s + 2 * save_s + min(SPARE_S, grace_s), max(grace_s, had_s / 2))


def save_seconds(folder: RunDir) -> float:
    """How long the slowest save of this run has taken so far."""
    saves = (row for row in read_jsonl(folder.events) if row.get("event") == "checkpointed")
    return max((float(row.get("seconds") or 0) + float(row.get("stall_s") or 0) for row in saves), default=0.0)
