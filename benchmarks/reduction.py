"""What the tree costs: ``python -m benchmarks.reduction [--workers 2,3,4] [--rounds 7]``.

A ResNet-18 (CIFAR stem, 11.2 million parameters) makes whole training steps on gloo ranks, with DDP's own all-reduce and with the tree,
turn by turn in the same processes. Then V/W = 2 and 4 micro-batches a worker: the subtree stack against ordinary accumulation in ``.grad``.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from benchmarks.measure import ROOT
from trainer.config.schema import ClipSection, Config
from trainer.distributed import World, join
from trainer.fingerprint import quick
from trainer.metrics.meters import Meters
from trainer.models.resnet import resnet18
from trainer.step import Update

MICRO_BATCH, SIDE = 16, 32


def config(virtual_ranks: int, world_size: int) -> Config:
    return Config.model_validate(
        {
            "run": {"name": "bench"},
            "model": {"target": "resnet18"},
            "data": {"train": {"target": "fake_data"}, "batch_size": MICRO_BATCH * virtual_ranks},
            "optimizer": {"target": "sgd", "lr": 0.01},
            "train": {"epochs": 1, "virtual_ranks": virtual_ranks},
            "hardware": {"device": "cpu", "threads": 1, "deterministic": False},
        }
    )


def micro_batches(count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(torch.randn(MICRO_BATCH, 3, SIDE, SIDE), torch.randint(10, (MICRO_BATCH,))) for _ in range(count)]


def tree_step(world: World, share: int) -> Callable[[], None]:
    """A step of ours."""
    model = resnet18(num_classes=10, stem="cifar")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    settings = config(share * world.size, world.size)
    assert settings.train.clip == ClipSection()
    update = Update(settings, world, model, nn.CrossEntropyLoss(), optimizer, None, None, Meters(share, world.device))
    batches = micro_batches(share)
    return lambda: (update(batches, 0, [MICRO_BATCH] * share, settings.data.batch_size), None)[1]


def plain_step(world: World, share: int) -> Callable[[], None]:
    """A step as it is written by hand: DDP, accumulation under no_sync."""
    model = resnet18(num_classes=10, stem="cifar")
    ddp = DistributedDataParallel(model, gradient_as_bucket_view=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    loss, batches = nn.CrossEntropyLoss(), micro_batches(share)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with ddp.no_sync():
            for inputs, targets in batches[:-1]:
                (loss(ddp(inputs), targets) / share).backward()
        inputs, targets = batches[-1]
        (loss(ddp(inputs), targets) / share).backward()
        optimizer.step()

    return step


def measure(rounds: int, share: int) -> None:
    """In one rank: turn by turn; rank 0 prints the medians."""
    world = join(config(1, 1).hardware)
    torch.set_num_threads(1)
    steps = {"all-reduce": plain_step(world, share), "tree": tree_step(world, share)}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds + 2):
        for name, step in steps.items():
            dist.barrier()
            began = time.perf_counter()
            step()
            dist.barrier()
            if turn >= 2:  # DDP lays its buckets anew after the first step
                times[name].append(time.perf_counter() - began)
    if world.is_main:
        plain, tree = (statistics.median(times[name]) for name in ("all-reduce", "tree"))
        print(f"| {world.size} | {share} | {plain * 1e3:.0f} | {tree * 1e3:.0f} | {tree / plain:.2f} |", flush=True)
    dist.barrier()
    os._exit(0)


def fingerprint_cost() -> None:
    """The 64-bit fingerprint of a ResNet-18's weights against one step on the same core."""
    torch.set_num_threads(1)
    model = resnet18(num_classes=10, stem="cifar")
    loss, (inputs, targets) = nn.CrossEntropyLoss(), micro_batches(1)[0]

    def best(call: Callable[[], object]) -> float:
        times = []
        for _ in range(7):
            began = time.perf_counter()
            call()
            times.append(time.perf_counter() - began)
        return statistics.median(times)

    step = best(lambda: loss(model(inputs), targets).backward())
    own = best(lambda: quick(model.parameters()))
    print(f"\nFingerprint of 11.2 million weights: {own * 1e3:.1f} ms; of one forward and backward pass: {step * 1e3:.1f} ms.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", default="2,3,4")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--share", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.share:
        measure(arguments.rounds, arguments.share)
    print(f"\n### Whole step, ResNet-18 with CIFAR stem, {MICRO_BATCH} images {SIDE}×{SIDE} a micro-batch, medians of {arguments.rounds}\n")
    print("| workers | V/W | DDP's all-reduce, ms | the tree, ms | ratio |\n| ---: | ---: | ---: | ---: | ---: |", flush=True)
    for share, workers in [(1, w) for w in arguments.workers.split(",")] + [(2, "2"), (4, "2")]:
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", workers, "-m", "benchmarks.reduction"]
        command = [*torchrun, "--share", str(share), "--rounds", str(arguments.rounds)]
        done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
        print(done.stdout.strip() or done.stderr[-1500:], flush=True)
    fingerprint_cost()


if __name__ == "__main__":
    main()
