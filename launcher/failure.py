"""How the workers ended -> the first cause, the exit code and what to say (pure, free of torch)."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from launcher.health import Stuck
from trainer.errors import DONE, EXIT_CODES, LOST, STOPPED, STUCK, TRAINING_FAILED

MAX_LINES = 10

# A worker that ends by one of these was not asked to, and took its peers with it; SIGTERM and SIGABRT also befall the peers.
FATAL = {signal.SIGKILL, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE}
# What multiprocessing says of a worker when the fork server, which alone could tell, is gone.
SERVER_GONE = 255
NOT_BEGUN = "stopped before training began; the same command starts it"
HINTS = {
    signal.SIGKILL: "out of memory?",
    signal.SIGBUS: "no room left in shared memory or on a disk?",
    signal.SIGSEGV: "a fault in compiled code",
    signal.SIGABRT: "a fault in compiled code",
}


@dataclass(frozen=True)
class WorkerEnd:
    """How one worker ended.

    Args:
        rank: its rank.
        exit_code: as the system tells it; negative: the signal that ended it; None: the system tells nothing.
        value: what its function returned, if it did.
        outcome: what it wrote about its end, ``{"exit_code", "error", "time", "peer_gone", "again"}``, if it did.
        by_launcher: it was killed by the launcher, because a peer was gone.
        message: what else is known, a traceback's last line for instance.
    """

    rank: int
    exit_code: int | None
    value: int | None = None
    outcome: Mapping[str, Any] | None = None
    by_launcher: bool = False
    message: str = ""

    @property
    def code(self) -> int:
        """Its exit code in the sense of our table."""
        if self.outcome is not None:
            return int(self.outcome["exit_code"])
        if self.exit_code is None or self.exit_code < 0 or self.exit_code == SERVER_GONE:
            return LOST
        if self.exit_code == 0:
            # Somebody's `os._exit(0)` looks like success to the system; a worker that is through says so.
            return TRAINING_FAILED if self.value is None else self.value
        return self.exit_code if self.exit_code in EXIT_CODES else TRAINING_FAILED

    @property
    def wordless(self) -> bool:
        """Whether it failed without saying why."""
        return self.outcome is None and (self.exit_code != 0 or self.value is None)

    @property
    def victim(self) -> bool:
        """Whether it failed only because a peer was gone."""
        if self.by_launcher:
            return True
        if self.outcome is not None:
            return bool(self.outcome.get("peer_gone"))
        return self.signal == signal.SIGTERM

    @property
    def signal(self) -> int:
        """The signal that ended it; 0: none."""
        return -self.exit_code if self.exit_code is not None and self.exit_code < 0 else 0


@dataclass(frozen=True)
class Verdict:
    """What a run's end means: the exit code, the lines for the screen, the rank whose log to read, and whether to try again."""

    exit_code: int
    lines: tuple[str, ...] = ()
    rank: int | None = None
    restart: bool = False

    @property
    def ended_well(self) -> bool:
        """Whether nothing is to be mended."""
        return self.exit_code in (DONE, STOPPED)


def judge(ends: Sequence[WorkerEnd], *, stop_requested: bool = False, stuck: Stuck | None = None, out_of_memory: bool = False) -> Verdict:
    """The verdict over a run.

    Args:
        ends: how each worker ended.
        stop_requested: the launcher had asked the workers to stop.
        stuck: the launcher ended them because none moved.
        out_of_memory: the kernel has killed processes for want of memory meanwhile.
    """
    if stuck is not None:
        return Verdict(STUCK, stuck.lines, stuck.rank, restart=True)
    if not ends:
        return Verdict(LOST, ("the workers could not be started",), restart=True)
    failed = [end for end in ends if end.code not in (DONE, STOPPED)]
    if not failed:
        return Verdict(STOPPED if any(end.code == STOPPED for end in ends) else DONE)
    if any(end.code == STOPPED for end in ends) and all(end.victim for end in failed):
        # The request met a worker that had not begun to train, which left at once; its peers could not go on without it.
        return Verdict(STOPPED, (NOT_BEGUN,))
    if stop_requested and any(end.wordless and end.signal == signal.SIGTERM for end in failed):
        return Verdict(STOPPED, (NOT_BEGUN,))
    cause = min(failed, key=_suspicion)
    # What a worker has a word for will happen again; what the system did need not.
    again = bool(cause.outcome and cause.outcome.get("again"))
    # Exit code 5 without a word is a worker's own, which found no place to write the word: a full disk.
    restart = cause.code == LOST and ((cause.wordless and cause.exit_code != LOST) or cause.victim or again)
    return Verdict(cause.code, tuple(_describe(cause, failed, out_of_memory)), cause.rank, restart)


def _suspicion(end: WorkerEnd) -> tuple[int, float, int]:
    """A key that is least for the likeliest first cause; peers of a lost worker die later, and say so or are terminated."""
    time = float(end.outcome.get("time", 0.0)) if end.outcome else 0.0
    if end.by_launcher:
        return (3, time, end.rank)
    if end.wordless and end.exit_code not in (None, SERVER_GONE) and (end.exit_code >= 0 or end.signal in FATAL):
        return (0, time, end.rank)
    return (2 if end.wordless or end.victim else 1, time, end.rank)


def _describe(cause: WorkerEnd, failed: Sequence[WorkerEnd], out_of_memory: bool) -> list[str]:
    """The cause in at most ``MAX_LINES`` - 1 lines: the log's path still follows."""
    if cause.outcome is not None:
        text = str(cause.outcome.get("error") or EXIT_CODES.get(cause.code, "failed")).strip().splitlines()
        lines = [f"rank {cause.rank}: {text[0]}", *(f"  {line}" for line in text[1:])]
    elif cause.exit_code in (None, SERVER_GONE):
        lines = [f"rank {cause.rank} is gone, and the system does not say how it ended"]
    elif cause.signal == signal.SIGKILL and out_of_memory:
        lines = [f"rank {cause.rank} was killed by the kernel: out of memory; fewer workers, smaller batches or loader workers need less"]
    elif cause.signal:
        lines = [f"rank {cause.rank} was killed by {signal_name(cause.signal)}{_hint(cause.signal)}"]
    elif cause.exit_code == 0:
        lines = [f"rank {cause.rank} ended without a word before the training was through; does some code call os._exit(0)?"]
    else:
        meaning = EXIT_CODES.get(cause.exit_code)
        lines = [f"rank {cause.rank} ended with exit code {cause.exit_code}{f' ({meaning})' if meaning else ''} and left no reason"]
        lines += [f"  {line}" for line in cause.message.strip().splitlines()[-5:]]
    others = sorted(end.rank for end in failed if end is not cause)
    room = MAX_LINES - 1 - bool(others)
    if len(lines) > room:
        lines = [*lines[: room - 1], "  …"]
    if others:
        lines.append(f"after it ended {_ranks(others)}")
    return lines


def signal_name(number: int) -> str:
    """``SIGKILL`` for 9; a number without a name stays a number."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _hint(number: int) -> str:
    hint = next((text for sig, text in HINTS.items() if sig == number), None)
    return f" ({hint})" if hint else ""


def _ranks(ranks: Sequence[int]) -> str:
    if len(ranks) == 1:
        return f"rank {ranks[0]}"
    shown = ", ".join(str(rank) for rank in ranks[:8])
    return f"ranks {shown}{f' and {len(ranks) - 8} more' if len(ranks) > 8 else ''}"
