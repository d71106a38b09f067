#!/usr/bin/env python3
"""Whether the runs of this container get on: exit code 0, or 1 and one line that says which one does not.

A run is under way here as long as a process of this container has its `lock` (the launcher) or its `fence` (a worker) open, wherever the
run folder is. Nothing under way is healthy. Workers say in `heartbeats/` when they last moved; the newest of them counts, because a step
is everyone's. Only the standard library is used, so that a look costs a twentieth of a second.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any


def under_way(proc: Path = Path("/proc")) -> dict[Path, set[int]]:
    """The run folders that processes of this container have open, and those processes. Others' processes cannot be looked into."""
    found: dict[Path, set[int]] = {}
    for descriptors in proc.glob("[0-9]*/fd"):
        with suppress(OSError):
            for link in descriptors.iterdir():
                with suppress(OSError):
                    path = link.readlink()
                    if path.name in ("lock", "fence") and (path.parent / "heartbeats").is_dir():
                        found.setdefault(path.parent, set()).add(int(descriptors.parent.name))
    return found


def beats(run: Path) -> list[dict[str, Any]]:
    """The heartbeats in a run folder that can be read."""
    found = []
    for path in run.glob("heartbeats/rank-*.json"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            beat = json.loads(path.read_text(encoding="utf-8"))
            found.append({"pid": int(beat["pid"]), "moved": float(beat["moved"]), "begun": bool(beat["begun"]), "step": int(beat["step"])})
    return found


def complaint(run: Path, pids: set[int], limit_s: float, start_limit_s: float) -> str | None:
    """What is wrong with a run that is under way, if anything is.

    Args:
        run: the run folder.
        pids: its processes in this container.
        limit_s: for how long no worker may move.
        start_limit_s: the same until the first update is done.
    """
    alive = [beat for beat in beats(run) if beat["pid"] in pids]
    if alive:  # all processes of a machine share the monotonic clock
        idle_s = time.monotonic() - max(beat["moved"] for beat in alive)
        limit_s = limit_s if any(beat["begun"] for beat in alive) else start_limit_s
        where = f"since step {max(beat['step'] for beat in alive)}"
    else:  # the workers are being started, for the first time or again
        files = [run / "lock", *run.glob("heartbeats/rank-*.json")]
        times = []
        for path in files:
            with suppress(OSError):
                times.append(path.stat().st_mtime)
        idle_s, limit_s, where = time.time() - max(times, default=time.time()), start_limit_s, "and has no workers yet"
    return f"{run}: has not moved for {idle_s:.0f} s {where}" if idle_s > limit_s else None


def main() -> int:
    """Look at every run that is under way here."""
    parser = argparse.ArgumentParser(description="Exit code 0 when the runs of this container get on, 1 when one does not.")
    parser.add_argument("--limit-s", type=float, default=float(os.environ.get("OSTINATO_HEALTH_LIMIT_S", "360")))
    parser.add_argument("--start-limit-s", type=float, default=float(os.environ.get("OSTINATO_HEALTH_START_LIMIT_S", "1860")))
    limits = parser.parse_args()
    runs = sorted(under_way().items())
    bad = [text for run, pids in runs if (text := complaint(run, pids, limits.limit_s, limits.start_limit_s))]
    print("\n".join(bad) or f"{len(runs)} run{'' if len(runs) == 1 else 's'} under way")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
