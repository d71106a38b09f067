"""One thread a worker that says where the worker is: heartbeat files, the system's figures, the progress bar.

The loop only sets attributes; everything that costs is done here, a few times a second.
"""

from __future__ import annotations

import json
import os
import threading
import time
from typing import Any

import psutil

from trainer.metrics.progress import Bar
from trainer.metrics.writer import MetricsWriter
from trainer.rundir import RunDir, append_jsonl, read_json

BEAT_S = 1.0
FRAME_S = 0.25


class Heart(threading.Thread):
    """Beats until `stop` is called.

    Args:
        run: the run folder.
        rank: whose heart it is.
        attempt: stands in the heartbeat.
    """

    def __init__(self, run: RunDir, rank: int, attempt: int) -> None:
        super().__init__(name="heart", daemon=True)
        self.run_dir, self.rank, self.attempt = run, rank, attempt
        self.phase, self.step, self.epoch = "start", 0, 0
        self.bar: Bar | None = None
        self.writer: MetricsWriter | None = None
        self.ranks: list[int] = []
        self.system_every_s = 0.0
        self._done = threading.Event()
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
                self.bar.show(self.epoch, self.step)
            if now >= next_beat:
                self.beat()
                next_beat = now + BEAT_S
            if self.ranks and now >= next_system:
                self.sample()
                next_system = now + self.system_every_s
            self._done.wait(FRAME_S if self.bar is not None else BEAT_S)

    def beat(self) -> None:
        """Write this rank's file; a full disk must not stop training."""
        memory = self._process.memory_info().rss
        facts = {
            "rank": self.rank,
            "pid": os.getpid(),
            "attempt": self.attempt,
            "time": time.time(),
            "phase": self.phase,
            "epoch": self.epoch,
            "step": self.step,
            "cpu_percent": self._process.cpu_percent(),
            "rss_bytes": memory,
        }
        path = self.run_dir.heartbeat(self.rank)
        partial = path.with_name(f".{path.name}.partial")
        try:
            partial.write_text(json.dumps(facts) + "\n", encoding="utf-8")
            partial.replace(path)
        except OSError:
            return

    def sample(self) -> None:
        """Write all ranks' newest figures as one row, and their curves."""
        figures: list[dict[str, Any]] = []
        for rank in self.ranks:
            try:
                beat = read_json(self.run_dir.heartbeat(rank))
            except (OSError, ValueError):
                continue
            if beat["attempt"] == self.attempt:
                figures.append({name: beat[name] for name in ("rank", "cpu_percent", "rss_bytes")})
        memory = psutil.virtual_memory()
        row = {"time": round(time.time(), 3), "step": self.step, "memory_available_bytes": memory.available, "ranks": figures}
        try:
            append_jsonl(self.run_dir.system, row)
        except OSError:
            return
        if self.writer is not None:
            curves = {}
            for figure in figures:
                curves[f"system/cpu_percent/rank-{figure['rank']}"] = figure["cpu_percent"]
                curves[f"system/rss_mib/rank-{figure['rank']}"] = figure["rss_bytes"] / 2**20
            self.writer.curves(self.step, curves)

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
            self.bar.close()
