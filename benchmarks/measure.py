"""Run contenders in turn, several times, and compare medians: these machines are noisy, so only ratios within one run count."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Contender:
    """Something to measure: a name and the command that trains the tiny job."""

    name: str
    command: list[str]


def run(contender: Contender, folder: Path) -> tuple[float, Path] | None:
    """Run one command in a fresh folder; the time at which it was typed, and where its stamps are. None: it does not run here."""
    stamps = folder / "stamps"
    environment = {**os.environ, "STAMPS": str(stamps), "PYTHONPATH": str(ROOT)}
    began = time.time()
    done = subprocess.run(contender.command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        print(f"  {contender.name} failed:\n{done.stdout[-1000:]}{done.stderr[-1000:]}", file=sys.stderr)
        return None
    return began, stamps


def compare(contenders: list[Contender], rounds: int, figure: Callable[[float, Path], float]) -> dict[str, list[float]]:
    """Measure all contenders in turn, `rounds` times; name -> figures."""
    found: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for number in range(rounds):
        order = contenders if number % 2 == 0 else contenders[::-1]
        for contender in order:
            with tempfile.TemporaryDirectory() as folder:
                seen = run(contender, Path(folder))
                if seen is not None:
                    found[contender.name].append(figure(*seen))
                    print(f"  round {number + 1}: {contender.name}: {found[contender.name][-1]:.6g}", file=sys.stderr)
    return {name: values for name, values in found.items() if values}


def table(found: dict[str, list[float]], base: str, unit: str, scale: float) -> str:
    """A Markdown table of medians, and ratios to one contender."""
    reference = statistics.median(found[base])
    lines = [f"| | median, {unit} | least, {unit} | ratio |", "| --- | ---: | ---: | ---: |"]
    for name, values in found.items():
        middle = statistics.median(values)
        lines.append(f"| {name} | {middle * scale:.4g} | {min(values) * scale:.4g} | {middle / reference:.2f} |")
    return "\n".join(lines)
