"""A small model, its weights in a file, and some real updates of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainer.models.simple import CNN


def images(seed: int = 0, samples: int = 8) -> Tensor:
    return torch.randn(samples, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 3, frozen: Any = None, seed: int = 0) -> None:
    """Train on one fixed sequence of batches, the generators seeded for each step."""
    model.train()
    if frozen is not None:
        frozen.train_mode(model)
    for step in range(seed, seed + steps):
        torch.manual_seed(step)
        optimizer.zero_grad(set_to_none=True)
        targets = torch.randint(3, (8,), generator=torch.Generator().manual_seed(step))
        nn.functional.cross_entropy(model(images(step)), targets).backward()
        optimizer.step()


def copies(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def moved(model: nn.Module, before: dict[str, Tensor]) -> set[str]:
    """The names of what has changed."""
    return {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}


def cnn(seed: int = 0, classes: int = 3) -> CNN:
    torch.manual_seed(seed)
    return CNN(1, classes, width=4)


def same(model: nn.Module, other: nn.Module) -> bool:
    return moved(model, copies(other)) == set()


def saved(value: Any, path: Path) -> str:
    torch.save(value, path)
    return str(path)
