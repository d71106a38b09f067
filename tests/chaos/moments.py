"""Instants in a run's life that a kill or a signal can be aimed at."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from tests.chaos.workload import LAST_STEP, STEPS_PER_EPOCH, newest_step
from tests.support.family import Family
from tests.support.jobs import catches
from trainer.rundir import RunDir
from trainer.stop import SIGNALS

POLL_S = 0.002


def wait_for(moment: str, family: Family, run: RunDir, start_s: float, chosen: random.Random) -> bool:
    """Wait for a moment, give or take; False: the run ended before it came.

    Args:
        moment: a name of `MOMENTS`.
        family: the job.
        run: its run folder.
        start_s: how long a start takes until the first step.
        chosen: the random instants.
    """
    return MOMENTS[moment](_Watch(family, run, start_s), chosen)


class _Watch:
    """A job that is watched from outside, through its run folder."""

    def __init__(self, family: Family, run: RunDir, start_s: float) -> None:
        self.family, self.run, self.start_s = family, run, start_s
        self.first = self.step()

    def step(self, split: str = "train") -> int:
        """The newest step in the metrics."""
        return newest_step(self.run, split)

    def until(self, condition: Callable[[], bool], limit_s: float = 120.0) -> bool:
        """Wait for a condition; False: the launcher has ended."""
        limit = time.monotonic() + limit_s
        while not condition():
            if self.family.launcher.poll() is not None:
                return False
            if time.monotonic() > limit:
                raise TimeoutError(f"{self.run.path.name}: the moment did not come within {limit_s:.0f} s")
            time.sleep(POLL_S)
        return True

    def running(self, seconds: float) -> bool:
        """Let so much time pass; False: the launcher has ended."""
        until = time.monotonic() + seconds
        return self.until(lambda: time.monotonic() > until)

    def awake(self) -> bool:
        """Whether the launcher listens. Before that no program can do anything about a signal, and nothing is there to be lost."""
        return all(catches(self.family.launcher.pid, number) for number in SIGNALS)


def _start_up(watch: _Watch, chosen: random.Random) -> bool:
    return watch.until(watch.awake) and watch.running(chosen.uniform(0, watch.start_s))


def _first_steps(watch: _Watch, chosen: random.Random) -> bool:
    later = chosen.randint(1, 2)
    return watch.until(lambda: watch.step() >= watch.first + later)


def _in_an_epoch(watch: _Watch, chosen: random.Random) -> bool:
    later = chosen.randint(3, 15)
    return watch.until(lambda: watch.step() >= watch.first + later) and watch.running(chosen.uniform(0, 0.03))


def _evaluation(watch: _Watch, chosen: random.Random) -> bool:
    """After an epoch's last step, before its row."""

    def epoch_is_over() -> bool:
        step = watch.step()
        return step > watch.first and step % STEPS_PER_EPOCH == 0 and watch.step("epoch") < step

    return watch.until(epoch_is_over) and watch.running(chosen.uniform(0, 0.03))


def _save(watch: _Watch, chosen: random.Random) -> bool:
    def writing() -> bool:
        return any(not path.name.startswith(".partial-old") for path in watch.run.checkpoints.glob(".partial-*"))

    return watch.until(lambda: watch.step() > watch.first) and watch.until(writing)


def _end(watch: _Watch, chosen: random.Random) -> bool:
    return watch.until(lambda: watch.step() >= LAST_STEP) and watch.running(chosen.uniform(0, 0.4))


MOMENTS: dict[str, Callable[[_Watch, random.Random], bool]] = {
    "start-up": _start_up,
    "the first steps": _first_steps,
    "an epoch": _in_an_epoch,
    "an evaluation": _evaluation,
    "a save": _save,
    "the end": _end,
}
