"""From the command to the first finished optimizer step, two workers: ``python -m benchmarks.first_step [--rounds 5]``."""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import sys
from pathlib import Path

from benchmarks.measure import ROOT, Contender, compare, table
from benchmarks.tiny import read_stamps

BASE = "bare script under torchrun"


def contenders() -> list[Contender]:
    python, bin_folder = sys.executable, Path(sys.executable).parent
    torchrun = [python, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    config = str(ROOT / "benchmarks/tiny.yaml")
    found = [
        Contender(BASE, [*torchrun, "-m", "benchmarks.peers.bare", "3"]),
        Contender("ostinato train", [str(bin_folder / "ostinato"), "train", config, "train.max_steps=3", "--nproc-per-node", "2"]),
        Contender("torchrun -m trainer", [*torchrun, "-m", "trainer", config, "train.max_steps=3"]),
    ]
    if importlib.util.find_spec("accelerate") and shutil.which("accelerate", path=str(bin_folder)):
        launch = [str(bin_folder / "accelerate"), "launch", "--cpu", "--num_processes", "2", "--num_machines", "1"]
        launch += ["--mixed_precision", "no", "--dynamo_backend", "no"]
        found.append(Contender("accelerate launch", [*launch, "-m", "benchmarks.peers.accelerate_loop", "3"]))
    if importlib.util.find_spec("lightning"):
        found.append(Contender("Lightning", [python, "-m", "benchmarks.peers.lightning_fit", "3", "2"]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    found = compare(contenders(), arguments.rounds, lambda began, stamps: read_stamps(stamps)[1] - began)
    print(f"\n### Command to first step, tiny MLP, two workers, {arguments.rounds} rounds\n")
    print(table(found, BASE, "s", 1.0))


if __name__ == "__main__":
    main()
