"""Stopping on request: a signal sets a flag in the worker that got it, and all ranks stop after the same step."""

from __future__ import annotations

import os
import signal
from types import FrameType

import torch
import torch.distributed as dist

from trainer.distributed import World

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


class StopRequest:
    """The signals that ask for a checkpoint and an end; `by` names the first one that came."""

    def __init__(self) -> None:
        self.by: str | None = None

    def install(self) -> None:
        """Listen. Under our launcher Ctrl-C is the launcher's to handle: it asks the workers by SIGTERM."""
        for number in SIGNALS:
            signal.signal(number, self._ask)
        launched = os.environ.get("OSTINATO_LAUNCHED") == "1"
        signal.signal(signal.SIGINT, signal.SIG_IGN if launched else self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.by == "SIGINT":
            os._exit(128 + number)  # a second Ctrl-C: leave now
        self.by = self.by or signal.Signals(number).name


class Agreement:
    """One answer for all ranks, each step: stop? save?

    The question travels while the step computes (an asynchronous all-reduce of two numbers on the CPU), so nobody waits for it and no
    device is involved. A request that comes during step k is acted on after step k + 1 at the latest.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.flags = torch.zeros(2, dtype=torch.int32)
        self.work: dist.Work | None = None
        self.own = (False, False)

    def ask(self, stop: bool, save: bool) -> None:
        """Say what this rank wants; any rank's yes is everyone's."""
        self.own = (stop, save)
        if self.world.size > 1:
            self.flags[0], self.flags[1] = stop, save
            self.work = dist.all_reduce(self.flags, op=dist.ReduceOp.MAX, async_op=True)

    def answer(self) -> tuple[bool, bool]:
        """What all agreed on: (stop, save)."""
        if self.work is None:
            return self.own
        self.work.wait()
        self.work = None
        stop, save = self.flags.tolist()
        return bool(stop), bool(save)
