"""When and how a run saves and finds its checkpoints: every rank calls, rank 0 writes, in the background."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from trainer.checkpoint import room, store
from trainer.checkpoint.staging import Staging
from trainer.checkpoint.writer import Order, Writer, not_finite
from trainer.config.resolved import arithmetic, config_hash, differences
from trainer.config.schema import Config
from trainer.distributed import World
from trainer.errors import CheckpointError
from trainer.metrics.writer import MetricsWriter, keep_rows
from trainer.rundir import RunDir, read_jsonl

if TYPE_CHECKING:
    from trainer.build import Job

log = logging.getLogger("trainer")


class Saver:
    """Saves and restores one run.

    Training stops only for a copy of the state; a thread of rank 0 writes it. `check` in each step tells of a write that failed, and
    `wait` must come before the process ends.

    Args:
        run: the run folder.
        config: the run's config.
        world: this worker's place.
        attempt: stands in the events.
    """

    def __init__(self, run: RunDir, config: Config, world: World, attempt: int) -> None:
        self.run, self.config, self.world, self.attempt = run, config, world, attempt
        self.policy = config.checkpoint
        self.hash = config_hash(config)
        self.last_save = time.monotonic()
        self._writer = Writer(run, self.policy, attempt, config.supervision.grace_s)
        self._staging = Staging()
        self._not_finite: frozenset[str] = frozenset()

    @property
    def beat(self) -> Callable[[], None] | None:
        """Called, from the thread, for each block that is written: a long write is progress."""
        return self._writer.beat

    @beat.setter
    def beat(self, beat: Callable[[], None] | None) -> None:
        self._writer.beat = beat

    @property
    def busy(self) -> bool:
        """Whether a checkpoint is being written right now; always False on the other ranks."""
        return self._writer.busy

    def due(self, now: float) -> bool:
        """Whether rank 0's clock says that it is time to save; the others follow rank 0."""
        return self.world.is_main and self.policy.every_s is not None and now - self.last_save >= self.policy.every_s

    def preflight(self, job: Job) -> None:
        """Before the first step, on rank 0: see whether the checkpoints will fit on the disk, and into the grace period.

        Raises:
            StorageError: not even one fits, or nothing can be written.
        """
        if self.world.is_main:
            self._not_finite = not_finite(job.state.model.state_dict())
            self._writer.too_slow = room.preflight(self.run.checkpoints, job, self._writer.grace_s)

    def save(self, job: Job, writer: MetricsWriter | None, best: float | None = None) -> None:
        """Save the present state; with `best`, this checkpoint is the best so far. Every rank calls it.

        It returns when the state is copied. A save that comes while one is still being written waits for that one.

        Raises:
            StorageError: the write before this one failed.
            NonFiniteError: the state before this one was not finite.
            CheckpointError: the state holds what a checkpoint cannot.
        """
        state = job.state
        state.rows = writer.rows if writer is not None else 0
        snapshot = state.state_dict(self.world)
        self.last_save = time.monotonic()
        if not self.world.is_main:
            return
        store.check_plain(snapshot)  # before the copy, which makes plain tensors of everything
        self._writer.wait()
        began = time.monotonic()
        staged = self._staging.copy(snapshot)
        facts = {"epoch": state.epoch, "config": self.hash, "settings": arithmetic(self.config)}
        self._writer.start(Order(staged, facts, best, time.monotonic() - began, self._not_finite))

    def check(self) -> None:
        """In each step: raise what a write in the background failed with."""
        self._writer.check()

    def wait(self) -> None:
        """Until everything is written; raises what it failed with. Only rank 0 has something to wait for."""
        self._writer.wait()

    def restore(self, job: Job) -> str | None:
        """Go on from the newest checkpoint that verifies; None: there is none, start from the beginning. Every rank calls it.

        Raises:
            CheckpointError: there are checkpoints, and none of them can be used; or the newest belongs to another config or model.
        """
        self.wait()
        folder = self.run.checkpoints
        all_names, name = store.names(folder), ""
        state: dict[str, Any] | None = None
        newer: list[str] = []
        if self.world.is_main:
            state, newer = self._newest_usable(all_names)
            name = next(iter(all_names[::-1][len(newer) :]), "")
        # Rank 0 decides, and says the name: another machine may for a while be shown an older list of a shared folder.
        name = self.world.broadcast_text(name)
        if not name:
            self._see_that_none_was_lost(all_names)
            if self.world.is_main:
                keep_rows(self.run, 0)
            return None
        refuse_foreign(folder / name, self.config)
        job.state.load_state_dict(state if state is not None else store.load(folder / name, self.beat), job.update.leaves)
        if self.world.is_main:
            for refused in newer:  # they must not stand in the way of those that are written from here on
                store.set_aside(folder, refused)
            self._writer.last_good = name
            keep_rows(self.run, job.state.rows)
            if store.pointed(folder, "last") != name:  # a kill came between the checkpoint and its pointer
                store.point(folder, "last", name)
            self._mend_best(job)
        return name

    def _newest_usable(self, all_names: list[str]) -> tuple[dict[str, Any] | None, list[str]]:
        """The newest state that can be read, and the names of those newer than it, which cannot; None: there is none."""
        newer: list[str] = []
        for name in reversed(all_names):
            try:
                return store.load(self.run.checkpoints / name, self.beat), newer
            except CheckpointError as fault:
                log.warning(str(fault))
                self.run.event("skipped", attempt=self.attempt, reason=str(fault))
                newer.insert(0, name)
        return None, newer

    def _see_that_none_was_lost(self, all_names: list[str]) -> None:
        """Before a run begins at step 0: it must not have been further already.

        Raises:
            CheckpointError: it was.
        """
        folder = self.run.checkpoints
        if all_names:
            raise CheckpointError(f"{folder}: none of the {len(all_names)} checkpoints can be used; ostinato train --fresh starts over")
        acknowledged = None
        for row in read_jsonl(self.run.events):
            acknowledged = {"created": None, "checkpointed": row.get("checkpoint")}.get(str(row.get("event")), acknowledged)
        if acknowledged:
            raise CheckpointError(
                f"{folder}: {acknowledged} was saved here, and now there is no checkpoint at all; is a disk not mounted? "
                "Bring them back, or start over with ostinato train --fresh"
            )

    def _load(self, checkpoint: Path) -> dict[str, Any]:
        refuse_foreign(checkpoint, self.config)
        return store.load(checkpoint, self.beat)

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
        """Put the best checkpoint's weights (the newest one's where none is best) in the model; its name. Every rank calls it."""
        folder = self.run.checkpoints
        self.wait()
        self.world.barrier()  # rank 0 has written by now
        name = self.world.broadcast_text((self._choose_best() or "") if self.world.is_main else "")
        if not name:
            return None
        saved = self._load(folder / name)
        job.state.model.load_state_dict(saved["model"])
        if job.state.ema is not None:
            job.state.ema.load_state_dict(saved["ema"])
        if job.state.swa is not None:
            job.state.swa.load_state_dict(saved["swa"])
        return name

    def _choose_best(self) -> str | None:
        """Which one to test with: the best, or the newest good one where that cannot be used; None: there is none."""
        folder = self.run.checkpoints
        best = store.pointed(folder, "best")
        if best is not None:
            try:
                store.verify(folder / best, self.beat)
                return best
            except CheckpointError as fault:
                log.warning(f"{fault}; the test takes the newest good one")
                self.run.event("skipped", attempt=self.attempt, reason=str(fault))
        return store.newest_good(folder, self.beat)[0]


def refuse_foreign(checkpoint: Path, config: Config) -> None:
    """Refuse a checkpoint of a run with other settings.

    An option that was not there yet when the checkpoint was written counts as its default.

    Raises:
        CheckpointError: names the settings that differ.
    """
    manifest = store.read(checkpoint)
    if manifest.get("config") in (None, config_hash(config)):
        return
    changed = "they are not recorded in it"
    if "settings" in manifest:
        try:
            lines = differences(Config.model_validate(manifest["settings"]), config)
        except (ValidationError, TypeError):
            changed = "another version of ostinato wrote it"
        else:
            if not lines:
                return
            changed = "; ".join(lines)
    raise CheckpointError(
        f"{checkpoint}: it was made with other settings ({changed}); give the run its config.yaml back, or start over with --fresh"
    )
