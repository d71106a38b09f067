"""How fast the command line answers, as a multiple of an empty python: ``python -m benchmarks.startup [--rounds 9]``."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measure import ROOT, table

BASE = "python -c pass"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    command = str(Path(sys.executable).parent / "ostinato")
    with tempfile.TemporaryDirectory() as folder:
        bad = Path(folder) / "bad.yaml"
        bad.write_text("model: {target: mlp}\ntrain: {epoch: 3}\n")
        commands = {
            BASE: [sys.executable, "-c", "pass"],
            "ostinato --help": [command, "--help"],
            "ostinato train, a config that the schema refuses": [command, "train", str(bad)],
            "ostinato train --dry-run": [command, "train", str(ROOT / "configs/digits.yaml"), "--dry-run"],
            "python -c 'import torch'": [sys.executable, "-c", "import torch"],
        }
        found: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(arguments.rounds):
            for name, words in commands.items():
                began = time.perf_counter()
                subprocess.run(words, capture_output=True, cwd=folder)
                found[name].append(time.perf_counter() - began)
    print(f"\n### Answers of the command line, {arguments.rounds} rounds\n")
    print(table(found, BASE, "ms", 1e3))


if __name__ == "__main__":
    main()
