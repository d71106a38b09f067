"""Whether looking at a run slows it: ``python -m benchmarks.watching [--rounds 11] [--seconds 3] [--watchers 3]``.

One run of the tiny job goes on all the while, and so many ``ostinato watch``, each in a terminal of its own, are in turn held and let go
(SIGSTOP, SIGCONT). Neighbouring turns are compared, as these machines are noisy.
"""

from __future__ import annotations

import argparse
import os
import pty
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.measure import ROOT
from benchmarks.tiny import read_stamps

SETTLE_S = 5.0
OSTINATO = [sys.executable, "-m", "launcher"]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


@contextmanager
def training(folder: Path, workers: int) -> Iterator[Path]:
    """The tiny job without an end; where its stamps are."""
    stamps = folder / "stamps"
    words = [str(ROOT / "benchmarks/tiny.yaml"), "train.epochs=1000000", "hardware.threads=1", "--nproc-per-node", str(workers)]
    run = subprocess.Popen(
        [*OSTINATO, "train", *words], cwd=folder, env=environment(STAMPS=str(stamps)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while not Path(f"{stamps}-0").exists():
            if run.poll() is not None:
                raise SystemExit(f"the run ended with exit code {run.returncode}")
            time.sleep(0.1)
        yield stamps
    finally:
        run.terminate()
        run.wait()


@contextmanager
def watchers(folder: Path, count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """So many ``ostinato watch``, each in a terminal whose output somebody takes."""
    terminals = [pty.openpty() for _ in range(count)]
    started = []
    for ours, theirs in terminals:
        command = [*OSTINATO, "watch", "runs/tiny"]
        started.append(subprocess.Popen(command, cwd=folder, env=environment(TERM="xterm"), stdin=theirs, stdout=theirs, stderr=theirs))
        os.close(theirs)
        threading.Thread(target=drain, args=(ours,), daemon=True).start()
    try:
        yield started
        if any(one.poll() is not None for one in started):
            raise SystemExit("somebody has ceased to look")
    finally:
        for one in started:
            one.send_signal(signal.SIGINT)
            one.send_signal(signal.SIGCONT)
            one.wait()


def drain(terminal: int) -> None:
    """Take what is written, until nobody writes any more."""
    with suppress(OSError):
        while os.read(terminal, 1 << 16):
            pass
    os.close(terminal)


def steps_per_s(stamps: dict[int, float], begin: float, end: float) -> float:
    inside = [(step, when) for step, when in sorted(stamps.items()) if begin <= when <= end]
    (first, since), (last, until) = inside[0], inside[-1]
    return (last - first) / (until - since)


def measure(workers: int, count: int, rounds: int, seconds: float) -> tuple[list[float], list[float]]:
    """Steps a second in each round, while nobody looks and while so many do."""
    turns: dict[signal.Signals, list[tuple[float, float]]] = {signal.SIGSTOP: [], signal.SIGCONT: []}
    with tempfile.TemporaryDirectory() as name, training(Path(name), workers) as stamps, watchers(Path(name), count) as started:
        time.sleep(SETTLE_S)
        for number in range(rounds):
            for order in list(turns)[:: 1 if number % 2 == 0 else -1]:
                for one in started:
                    one.send_signal(order)
                began = time.time()
                time.sleep(seconds)
                turns[order].append((began, time.time()))
        when = read_stamps(stamps)
    alone, seen = ([steps_per_s(when, *turn) for turn in found] for found in turns.values())
    return alone, seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--watchers", type=int, default=3)
    arguments = parser.parse_args()
    looking = f"{arguments.watchers} look, steps/s"
    print(f"\n### A run that is looked at, tiny MLP, medians of {arguments.rounds} times {arguments.seconds:g} s\n")
    print(f"| workers | nobody looks, steps/s | {looking} | ratio of neighbours |\n| ---: | ---: | ---: | ---: |", flush=True)
    for workers in (1, 2):
        alone, seen = measure(workers, arguments.watchers, arguments.rounds, arguments.seconds)
        ratios = [after / before for before, after in zip(alone, seen, strict=True)]
        print(f"  ratios: {' '.join(f'{ratio:.2f}' for ratio in ratios)}", file=sys.stderr)
        middle = [statistics.median(values) for values in (alone, seen, ratios)]
        print(f"| {workers} | {middle[0]:.0f} | {middle[1]:.0f} | {middle[2]:.3f} |", flush=True)


if __name__ == "__main__":
    main()
