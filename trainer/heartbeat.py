"""One thread a worker that says where the worker is: heartbeat files, the system's figures, the progress bar.

The loop only sets attributes of a `Place`; everything that costs is done here, a few times a second.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from trainer.files import write_atomic
from trainer.metrics.progress import Bar
from trainer.metrics.writer import MetricsWriter
from trainer.rundir import RunDir, append_jsonl, read_json

BEAT_S = 0.5
BEAT_BYTES = 1024
FRAME_S = 0.25
SAMPLED = ("rank", "cpu_percent", "rss_bytes", "gpu_bytes", "waited_s", "worked_s")


@dataclass
class Place:
    """Where a worker is in its work. The loop writes, the heart reads.

    Args:
        phase: start, load, forward, backward, step, save or evaluate.
        step: updates completed.
        epoch: epochs completed.
        tick: goes up with each piece of work within a phase, a batch of an evaluation for instance.
        begun: an update is completed in this attempt.
        waited_s: time in which training waited for data, in this attempt; worked_s: time in its steps.
    """

    phase: str = "start"
    step: int = 0
    epoch: int = 0
    tick: int = 0
    begun: bool = False
    waited_s: float = 0.0
    worked_s: float = 0.0


class Heart(threading.Thread):
    """Beats until `stop` is called.

    Args:
        run: the run folder.
        rank: whose heart it is.
        attempt: stands in the heartbeat.
        place: what it watches.
    """

    def __init__(self, run: RunDir, rank: int, attempt: int, place: Place) -> None:
        super().__init__(name="heart", daemon=True)
        self.run_dir, self.rank, self.attempt, self.place = run, rank, attempt, place
        self.seen: tuple[str, int, int] | None = None
        self.moved = time.monotonic()
        self.bar: Bar | None = None
        self.writer: MetricsWriter | None = None
        self.ranks: list[int] = []
        self.system_every_s = 0.0
        self._done = threading.Event()
        self._nearby: int | None = None
        """Under our launcher: a file in its private folder, which may be on another disk than the run."""
        if "OSTINATO_STORE" in os.environ:
            with suppress(OSError):
                path = Path(os.environ["OSTINATO_STORE"]).with_name(f"beat-{rank}.json")
                self._nearby = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
                os.pwrite(self._nearby, b" " * BEAT_BYTES, 0)
        self._process = psutil.Process()

    def collect(self, writer: MetricsWriter, ranks: int, every_s: float) -> None:
        """On rank 0: also gather all ranks' figures into ``system.jsonl``."""
        self.writer, self.ranks, self.system_every_s = writer, list(range(ranks)), every_s

    def run(self) -> None:
        """Beat."""
        self._process.cpu_percent()  # the first call only starts the measurement
        next_beat, next_system = 0.0, time.monotonic() + self.system_every_s
        while not self._done.is_set():
            now = time.monotonic()
            if self.bar is not None:
                with suppress(OSError):  # the terminal may be gone
                    self.bar.show(self.place.epoch, self.place.step)
            if now >= next_beat:
                self.beat()
                next_beat = now + BEAT_S
            if self.ranks and now >= next_system:
                self.sample()
                next_system = now + self.system_every_s
            self._done.wait(FRAME_S if self.bar is not None else BEAT_S)

    def beat(self) -> None:
        """Write this rank's file; a full disk must not stop training."""
        place, now = self.place, time.monotonic()
        seen = (place.phase, place.step, place.tick)
        if seen != self.seen:
            self.seen, self.moved = seen, now
        memory = self._process.memory_info().rss
        facts = {
            "rank": self.rank,
            "pid": os.getpid(),
            "attempt": self.attempt,
            "time": time.time(),
            "monotonic": now,
            "moved": self.moved,
            "phase": place.phase,
            "epoch": place.epoch,
            "step": place.step,
            "begun": place.begun,
            "cpu_percent": self._process.cpu_percent(),
            "rss_bytes": memory,
            "gpu_bytes": _gpu_bytes(),
            "waited_s": round(place.waited_s, 3),
            "worked_s": round(place.worked_s, 3),
        }
        text = json.dumps(facts) + "\n"
        with suppress(OSError):
            if self._nearby is not None:  # in place: that needs no room, and a torn one is skipped by its reader
                os.pwrite(self._nearby, text.ljust(BEAT_BYTES).encode(), 0)
        with suppress(OSError):
            write_atomic(self.run_dir.heartbeat(self.rank), text.encode(), durable=False)

    def sample(self) -> None:
        """Write all ranks' newest figures as one row, and their curves."""
        figures: list[dict[str, Any]] = []
        for rank in self.ranks:
            try:
                beat = read_json(self.run_dir.heartbeat(rank))
            except (OSError, ValueError):
                continue
            if beat["attempt"] == self.attempt:
                figures.append({name: beat[name] for name in SAMPLED})
        memory = psutil.virtual_memory()
        row = {"time": round(time.time(), 3), "step": self.place.step, "memory_available_bytes": memory.available, "ranks": figures}
        try:
            append_jsonl(self.run_dir.system, row)
        except OSError:
            return
        if self.writer is not None:
            curves = {}
            for figure in figures:
                curves[f"system/cpu_percent/rank-{figure['rank']}"] = figure["cpu_percent"]
                curves[f"system/rss_mib/rank-{figure['rank']}"] = figure["rss_bytes"] / 2**20
            self.writer.curves(self.place.step, curves)

    def stop(self) -> None:
        """Beat once more, sample once more, and end; a second call does nothing."""
        if self._done.is_set():
            return
        self._done.set()
        if self.is_alive():
            self.join()
        self.beat()
        if self.ranks:
            self.sample()
        if self.bar is not None:
            with suppress(OSError):
                self.bar.close()


def _gpu_bytes() -> int | None:
    """What torch's allocator has given out on this process's GPU; asked of its books, so the device is not waited for."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    return int(torch.cuda.memory_allocated())
