"""How long training stops for a checkpoint: ``python -m benchmarks.checkpoint_stall [--rounds 7] [--folder .]``.

25 million parameters with Adam's state, 300 MB. In turn: ``torch.save`` and fsync, as it is written by hand, and `Saver.save`, which comes
back when the state is copied. Then training steps while the thread writes, against steps while nothing is written.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from trainer import build
from trainer.checkpoint.saver import Saver
from trainer.config.schema import Config
from trainer.distributed import join
from trainer.rundir import RunDir

WIDTH, LAYERS, BATCH = 1250, 16, 32


class Large(nn.Sequential):
    """25 million parameters."""

    def __init__(self) -> None:
        super().__init__(*[nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS)])


class Vectors:
    """A data set that is only counted."""

    def __len__(self) -> int:
        return 10 * BATCH

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.zeros(WIDTH), 0


def config() -> Config:
    return Config.model_validate(
        {
            "run": {"name": "stall"},
            "model": {"target": "benchmarks.checkpoint_stall:Large"},
            "data": {"train": {"target": "benchmarks.checkpoint_stall:Vectors"}, "batch_size": BATCH},
            "optimizer": {"target": "adam", "lr": 1e-6},
            "train": {"epochs": 1, "virtual_ranks": 1},
            "hardware": {"threads": 1},
        }
    )


def make_step(job: build.Job) -> Callable[[], None]:
    """A plain training step on the job's model."""
    model, optimizer = job.state.model, job.state.optimizer
    inputs = torch.randn(BATCH, WIDTH, device=job.world.device)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        model(inputs).square().mean().backward()
        optimizer.step()
        job.state.step += 1
        if job.world.device.type == "cuda":
            torch.cuda.synchronize()

    return step


def blocking_save(job: build.Job, path: Path) -> None:
    """What a script does."""
    with open(path, "wb") as file:
        torch.save(job.state.state_dict(job.world), file)
        file.flush()
        os.fsync(file.fileno())


def seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def stalls(job: build.Job, saver: Saver, step: Callable[[], None], folder: Path, rounds: int) -> dict[str, list[float]]:
    """The time for which training stops, in turn."""
    found: dict[str, list[float]] = {"torch.save and fsync": [], "ostinato": []}
    for _ in range(rounds + 1):
        step()
        found["torch.save and fsync"].append(seconds(lambda: blocking_save(job, folder / "plain.pt")))
        (folder / "plain.pt").unlink()
        step()
        found["ostinato"].append(seconds(lambda: saver.save(job, None)))
        saver.wait()
    return found


def steps_meanwhile(job: build.Job, saver: Saver, step: Callable[[], None], rounds: int) -> tuple[list[float], list[float]]:
    """Times of steps with nothing being written, and with; in turn."""
    quiet: list[float] = []
    busy: list[float] = []
    for _ in range(rounds):
        quiet += [seconds(step) for _ in range(5)]
        saver.save(job, None)
        while saver.busy:
            busy.append(seconds(step))
        saver.wait()
    return quiet, busy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--folder", default=None, help="where to write; a temporary folder by default")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        run = RunDir(Path(name) / "run")
        run.create()
        settings = config()
        world = join(settings.hardware)
        job = build.build(settings, world)
        saver = Saver(run, settings, world, 0)
        step = make_step(job)
        found = stalls(job, saver, step, Path(name), arguments.rounds)
        quiet, busy = steps_meanwhile(job, saver, step, arguments.rounds)
    reference = statistics.median(found["torch.save and fsync"][1:])
    print(f"\n### Training stops for a checkpoint of 300 MB ({world.device.type}), medians of {arguments.rounds}\n")
    print("| | first, ms | median of the others, ms | ratio |\n| --- | ---: | ---: | ---: |")
    for contender, (first, *others) in found.items():
        middle = statistics.median(others)
        print(f"| {contender} | {first * 1e3:.0f} | {middle * 1e3:.0f} | {middle / reference:.3f} |")
    plain, meanwhile = statistics.median(quiet), statistics.median(busy)
    print(f"\nA step takes {plain * 1e3:.0f} ms, while the thread writes {meanwhile * 1e3:.0f} ms: {meanwhile / plain:.2f} ×.")


if __name__ == "__main__":
    main()
