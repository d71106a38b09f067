"""When and how a run saves and finds its checkpoints: every rank calls, rank 0 writes."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from trainer import fingerprint
from trainer.checkpoint import store
from trainer.config.load import config_hash
from trainer.config.schema import Config
from trainer.distributed import World
from trainer.errors import CheckpointError
from trainer.metrics.writer import MetricsWriter, keep_rows
from trainer.rundir import RunDir

if TYPE_CHECKING:
    from trainer.build import Job

log = logging.getLogger("trainer")


class Saver:
    """Saves and restores one run.

    Args:
        run: the run folder.
        config: the run's config.
        world: this worker's place.
        attempt: stands in the events.
    """

    def __init__(self, run: RunDir, config: Config, world: World, attempt: int) -> None:
        self.run, self.world, self.attempt = run, world, attempt
        self.policy = config.checkpoint
        self.hash = config_hash(config)
        self.last_save = time.monotonic()

    def due(self, now: float) -> bool:
        """Whether rank 0's clock says that it is time to save; the others follow rank 0."""
        return self.world.is_main and self.policy.every_s is not None and now - self.last_save >= self.policy.every_s

    def save(self, job: Job, writer: MetricsWriter | None, best: float | None = None) -> None:
        """Save the present state; with `best`, this checkpoint is the best so far. Every rank calls it."""
        state = job.state
        state.rows = writer.rows if writer is not None else 0
        snapshot = state.state_dict(self.world)
        self.last_save = time.monotonic()
        if not self.world.is_main:
            return
        folder = self.run.checkpoints
        began = time.monotonic()
        weights = fingerprint.sha256(snapshot["model"])
        name = store.write(folder, snapshot, {"epoch": state.epoch, "config": self.hash, "weights": weights})
        store.point(folder, "last", name)
        if best is not None:
            store.point(folder, "best", name, value=best)
        protected = [p for p in (name, store.pointed(folder, "best")) if p]
        store.prune(folder, last=self.policy.keep_last, every=self.policy.keep_every, protected=protected)
        seconds = round(time.monotonic() - began, 4)
        self.run.event("checkpointed", attempt=self.attempt, step=state.step, checkpoint=name, weights=weights, seconds=seconds)

    def restore(self, job: Job) -> str | None:
        """Go on from the newest checkpoint that verifies; None: there is none, start from the beginning. Every rank calls it.

        Raises:
            CheckpointError: there are checkpoints, and none of them can be used.
        """
        folder = self.run.checkpoints
        found, all_names = None, store.names(folder)
        if self.world.is_main:
            found, complaints = store.newest_good(folder)
            for complaint in complaints:
                log.warning(complaint)
                self.run.event("skipped", attempt=self.attempt, reason=complaint)
            newer = all_names[all_names.index(found) + 1 :] if found is not None else []
        # Rank 0 decides; the names are listed before anybody writes, so a number says which one.
        number = self.world.broadcast_int(all_names.index(found) if found is not None else -1)
        if number < 0:
            if all_names:
                raise CheckpointError(f"{folder}: none of the {len(all_names)} checkpoints can be used; ostinato train --fresh starts over")
            if self.world.is_main:
                keep_rows(self.run, 0)
            return None
        name = all_names[number]
        if self.world.is_main:
            for refused in newer:  # they must not stand in the way of those that are written from here on
                store.set_aside(folder, refused)
        job.state.load_state_dict(store.load(folder / name), job.update.leaves)
        if self.world.is_main:
            keep_rows(self.run, job.state.rows)
            self._mend_best(job)
        return name

    def _mend_best(self, job: Job) -> None:
        """Let ``best.json`` agree with the state that is resumed: a kill may have come between the checkpoint and the pointer."""
        folder, step = self.run.checkpoints, job.state.best_step
        pointed = store.pointed(folder, "best")
        if step is None or (pointed is not None and store.step_of(pointed) == step):
            return
        candidates = [name for name in store.names(folder) if store.step_of(name) == step]
        if candidates:
            store.point(folder, "best", candidates[-1], value=job.state.best)

    def load_best(self, job: Job) -> str | None:
        """Put the best checkpoint's weights (the newest one's where none is best) in the model; its name."""
        folder = self.run.checkpoints
        self.world.barrier()  # rank 0 has written by now
        names, chosen = store.names(folder), -1
        if self.world.is_main:
            chosen = self._choose_best(names)
        chosen = self.world.broadcast_int(chosen)
        if chosen < 0:
            return None
        name = names[chosen]
        saved = store.load(folder / name)
        job.state.model.load_state_dict(saved["model"])
        if job.state.ema is not None:
            job.state.ema.load_state_dict(saved["ema"])
        return name

    def _choose_best(self, names: list[str]) -> int:
        """Which of the names to test with: the best, or the newest good one where that cannot be used."""
        folder = self.run.checkpoints
        best = store.pointed(folder, "best")
        if best is not None:
            try:
                store.verify(folder / best)
                return names.index(best)
            except CheckpointError as fault:
                log.warning(f"{fault}; the test takes the newest good one")
                self.run.event("skipped", attempt=self.attempt, reason=str(fault))
        found, _ = store.newest_good(folder)
        return names.index(found) if found is not None else -1
