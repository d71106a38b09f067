"""What a step costs beyond a hand-written loop: ``python -m benchmarks.step_overhead [--rounds 5] [--steps 2000]``."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

from benchmarks.measure import ROOT, Contender, compare, table
from benchmarks.tiny import read_stamps

BASE = "bare DDP loop, batches by index"


def contenders(steps: int, workers: int) -> list[Contender]:
    python, torchrun = [sys.executable], [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(workers)]
    begin = python if workers == 1 else torchrun
    found = [
        Contender(BASE, [*begin, "-m", "benchmarks.peers.bare", str(steps), "batches"]),
        Contender("bare DDP loop, DataLoader as in tutorials", [*begin, "-m", "benchmarks.peers.bare", str(steps), "samples"]),
        Contender("ostinato, all defaults", [*begin, "-m", "trainer", str(ROOT / "benchmarks/tiny.yaml"), f"train.max_steps={steps}"]),
    ]
    if importlib.util.find_spec("accelerate"):
        found.append(Contender("Accelerate", [*begin, "-m", "benchmarks.peers.accelerate_loop", str(steps)]))
    if importlib.util.find_spec("lightning"):
        found.append(Contender("Lightning, all defaults", [*python, "-m", "benchmarks.peers.lightning_fit", str(steps), str(workers)]))
    return found


def seconds_per_step(_began: float, stamps: Path) -> float:
    """From step 200, when everything is warm, to the last one."""
    when = read_stamps(stamps)
    last = max(when)
    return (when[last] - when[200]) / (last - 200)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2000)
    arguments = parser.parse_args()
    for workers in (1, 2):
        found = compare(contenders(arguments.steps, workers), arguments.rounds, seconds_per_step)
        print(f"\n### Step, tiny MLP, workers: {workers}, steps 200 to {arguments.steps}, {arguments.rounds} rounds\n")
        print(table(found, BASE, "µs", 1e6))


if __name__ == "__main__":
    main()
