"""A process that trains on nothing: it reads with loader workers, prints their process ids, and goes on reading."""

from __future__ import annotations

import sys
import time
from typing import Any

from tests.support.data_sets import Dice, Slow
from trainer.data.loader import TrainLoader
from trainer.data.order import BatchPlan


def read_some(loader_workers: int = 1) -> tuple[list[int], list[list[float]]]:
    """The loader workers' process ids, and the first step's inputs."""
    loader = TrainLoader(Dice(50), BatchPlan(50, 8, 4, seed=3), loader_workers=loader_workers)
    steps = loader.epoch(1)
    inputs = next(steps)[0][0].tolist()
    return [worker.pid for worker in loader._iterator._workers], inputs


def read_into(box: Any) -> None:
    """`read_some` for a process that answers through a queue."""
    box.put(read_some()[1])


def close_while_stuck() -> float:
    """Seconds that closing takes while a loader worker hangs in a read."""
    loader = TrainLoader(Slow(8), BatchPlan(8, 1, 1, seed=3, shuffle=False), loader_workers=1, prefetch_factor=8)
    steps = loader.epoch(0)
    for _ in range(7):
        next(steps)
    start = time.monotonic()
    loader.close()
    return time.monotonic() - start


def main() -> None:
    """Read one step whenever a line comes in."""
    loader = TrainLoader(Dice(50), BatchPlan(50, 8, 4, seed=3), loader_workers=2)
    for epoch in range(1000):
        for _ in loader.epoch(epoch):
            print(*(worker.pid for worker in loader._iterator._workers), flush=True)
            sys.stdin.readline()


if __name__ == "__main__":
    main()
