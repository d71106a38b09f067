"""All ranks stop, and save, after the same step: a few flags that travel beside the training."""

from __future__ import annotations

import torch
import torch.distributed as dist

from trainer.distributed import World


class Agreement:
    """One answer for all ranks: stop? save?

    The question travels while a step computes (an asynchronous all-reduce of three numbers on the CPU), so nobody waits for it and no
    device is involved. Where steps are short it is not asked in each: rank 0 says in the answer how many steps to skip.

    Args:
        world: this worker's place.
        pause_s: the time that may pass between two questions; 0: ask in each step.
    """

    MAX_SKIP = 15  # a run whose steps grow slow all at once must still hear a request in time

    def __init__(self, world: World, pause_s: float = 0.05) -> None:
        self.world, self.pause_s = world, pause_s
        self.flags = torch.zeros(3, dtype=torch.int32)
        self.work: dist.Work | None = None
        self.own = (False, False)
        self.skip = self.skipped = 0
        self.asked_at: float | None = None

    def ask(self, stop: bool, save: bool, now: float) -> None:
        """Say what this rank wants; any rank's yes is everyone's.

        Args:
            stop: end after this step.
            save: save after this step.
            now: a monotonic clock, in seconds; only rank 0's counts.
        """
        self.own = (stop, save)
        if self.world.size == 1:
            return
        if self.skipped < self.skip:
            self.skipped += 1
            return
        proposal = self._proposal(now) if self.world.is_main else 0
        self.skipped, self.asked_at = 0, now
        self.flags[0], self.flags[1], self.flags[2] = stop, save, proposal
        self.work = dist.all_reduce(self.flags, op=dist.ReduceOp.MAX, async_op=True)

    def begin(self) -> None:
        """Forget the pace: what comes now may be slower than what was before. Every rank calls it."""
        self.skip = self.skipped = 0
        self.asked_at = None

    def _proposal(self, now: float) -> int:
        if self.asked_at is None or self.pause_s == 0:
            return 0
        step_s = (now - self.asked_at) / (self.skip + 1)
        return min(self.MAX_SKIP, int(self.pause_s / max(step_s, 1e-6)))

    def answer(self) -> tuple[bool, bool]:
        """What all agreed on, (stop, save); both False in a step in which nobody was asked."""
        if self.world.size == 1:
            return self.own
        if self.work is None:
            return False, False
        self.work.wait()
        self.work = None
        stop, save, self.skip = self.flags.tolist()
        return bool(stop), bool(save)
