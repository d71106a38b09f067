"""How a run ended -> whether to start it again, with how many workers, after which pause (pure, free of torch)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from launcher.failure import Verdict
from trainer.config.schema import SupervisionSection

LONGEST_PAUSE_S = 30.0


@dataclass(frozen=True)
class Restart:
    """The next attempt."""

    workers: int
    pause_s: float


def after(verdict: Verdict, in_vain: int, workers: int, fitting: Sequence[int], policy: SupervisionSection) -> Restart | None:
    """What follows an attempt; None: nothing, the run ends here.

    Only what the system did is tried again: code and config fail the same way each time. Attempts count until one brings a new
    checkpoint, so that a fault at the same place each time ends the run and a faulty machine does not.

    Args:
        verdict: how the attempt ended.
        in_vain: attempts in a row, this one included, that brought no new checkpoint; 0: this one did.
        workers: how many it had.
        fitting: the numbers of workers that may be: divisors of the virtual ranks, as many as there are devices.
        policy: the config's.
    """
    if not fitting or not verdict.restart or max(in_vain, 1) > policy.max_restarts:
        return None
    fewer = [number for number in fitting if number < workers]
    if workers not in fitting or (policy.fewer_workers and in_vain > 1):
        workers = max(fewer, default=workers)
    return Restart(workers, min(LONGEST_PAUSE_S, 2.0 ** (in_vain - 2)) if in_vain > 1 else 0.0)
