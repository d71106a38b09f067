"""Reading CIFAR-like images: ``python -m benchmarks.loading [--rounds 5] [--images 10000] [--loader-workers 2]``.

The same images, in memory as torchvision's CIFAR10 holds them, with the same transforms (a crop, a mirror image, Normalize), in batches
of 128: torchvision's set behind torch's DataLoader as in tutorials, ostinato image by image, ostinato with ``in_memory``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from benchmarks.measure import table
from trainer.data.loader import TrainLoader
from trainer.data.order import BatchPlan
from trainer.data.sets import CIFAR_MEAN, CIFAR_STD, CifarTrain
from trainer.data.transforms import torchvision_v2, with_transforms
from trainer.data.whole_batch import InMemory

BATCH = 128
BASE = "torchvision and DataLoader"


class Images:
    """Pixels in an array, given out as PIL images: what torchvision's CIFAR10 does."""

    def __init__(self, size: int, transform: Any = None) -> None:
        rng = np.random.default_rng(0)
        self.data = rng.integers(0, 256, (size, 32, 32, 3), dtype=np.uint8)
        self.targets = rng.integers(0, 10, size).tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        from PIL import Image

        image = Image.fromarray(self.data[index])
        return (image if self.transform is None else self.transform(image)), self.targets[index]


def tutorial(size: int, loader_workers: int) -> Callable[[], Iterator[Any]]:
    """The usual snippet."""
    v2 = torchvision_v2()
    steps = [v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip(), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    transform = v2.Compose([*steps, v2.Normalize(CIFAR_MEAN, CIFAR_STD)])
    loader = torch.utils.data.DataLoader(
        Images(size, transform),  # type: ignore[arg-type]
        batch_size=BATCH,
        shuffle=True,
        num_workers=loader_workers,
        persistent_workers=loader_workers > 0,
        drop_last=True,
    )
    return lambda: iter(loader)


def ours(size: int, loader_workers: int, in_memory: bool) -> Callable[[], Iterator[Any]]:
    """What a run reads with."""
    images = Images(size)
    dataset = with_transforms(InMemory(images) if in_memory else images, [CifarTrain()])
    loader = TrainLoader(dataset, BatchPlan(size, BATCH, 1, seed=0), loader_workers=loader_workers)
    epochs = iter(range(1_000_000))
    return lambda: loader.epoch(next(epochs))


def seconds_per_image(epoch: Callable[[], Iterator[Any]]) -> float:
    began, batches = time.perf_counter(), 0
    for _ in epoch():
        batches += 1
    return (time.perf_counter() - began) / (batches * BATCH)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--loader-workers", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    contenders: dict[str, Callable[[], Iterator[Any]]] = {}
    for workers in (0, arguments.loader_workers):
        where = f", loader workers: {workers}"
        contenders[BASE + where] = tutorial(arguments.images, workers)
        contenders["ostinato, image by image" + where] = ours(arguments.images, workers, in_memory=False)
        contenders["ostinato, in_memory" + where] = ours(arguments.images, workers, in_memory=True)
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for epoch in contenders.values():
        seconds_per_image(epoch)  # starts the loader workers
    for number in range(arguments.rounds):
        for name in list(contenders)[:: 1 if number % 2 == 0 else -1]:
            found[name].append(seconds_per_image(contenders[name]))
    base = f"{BASE}, loader workers: 0"
    print(f"\n### Reading {arguments.images} images of 32×32, one thread, {arguments.rounds} rounds\n")
    print(table(found, base, "µs an image", 1e6))
    middle = {name: sorted(values)[len(values) // 2] for name, values in found.items()}
    print("\n| | images a second | times as many |\n| --- | ---: | ---: |")
    for name, seconds in middle.items():
        print(f"| {name} | {1 / seconds:,.0f} | {middle[base] / seconds:.1f} |")


if __name__ == "__main__":
    main()
