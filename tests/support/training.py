"""Trains in this rank, and shows what the weights were before and after; a loss, a task and a model that tell what they were given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from tests.support.exact import Result, go_on
from tests.support.noisy import NoisyNet
from tests.support.ranks import run_ranks
from trainer.build import Job
from trainer.config.schema import Config
from trainer.tasks.base import Sums
from trainer.tasks.classification import Classification

Arrays = dict[str, np.ndarray]
END = 10**9


@dataclass(frozen=True)
class Trained:
    """What came of a run."""

    before: Arrays
    after: Arrays
    rows: list[dict[str, Any]]
    told: Any = None
    """What the question asked at the end."""

    def moved(self) -> set[str]:
        """The names of the tensors that are not as they were."""
        return {name for name, value in self.after.items() if not np.array_equal(value, self.before[name])}

    def of(self, split: str, name: str) -> list[Any]:
        """One column of the rows of a split."""
        return [row[name] for row in self.rows if row["split"] == split]


def train(config: Config, folder: str, stop_at: int = END, ask: Callable[[Job], Any] | None = None) -> Trained:
    """Train in a process of its own; `ask` is called with the job at the end, there."""
    return run_ranks(in_rank, 1, config, folder, stop_at, ask)[0]


def in_rank(config: Config, folder: str, stop_at: int, ask: Callable[[Job], Any] | None) -> Trained:
    """The same in this rank."""
    seen = _Seen()
    result: Result = go_on(config, folder, stop_at, seen)
    assert seen.job is not None
    return Trained(seen.before, arrays(seen.job), result.rows, ask(seen.job) if ask else None)


def arrays(job: Job) -> Arrays:
    """The model's weights and buffers."""
    return {name: value.detach().clone().numpy() for name, value in job.state.model.state_dict().items()}


@dataclass
class _Seen:
    """Looks at the job before it trains."""

    job: Job | None = None
    before: Arrays = field(default_factory=dict)

    def __call__(self, job: Job) -> None:
        self.job, self.before = job, arrays(job)


class Seeing(nn.CrossEntropyLoss):
    """Keeps the targets that it was given in training."""

    seen: ClassVar[list[np.ndarray]] = []

    def forward(self, output: Tensor, targets: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            Seeing.seen.append(targets.numpy())
        return super().forward(output, targets)


def seen_targets(job: Job) -> list[np.ndarray]:
    """What `Seeing` was given."""
    return Seeing.seen


class Shares(Classification):
    """Measures the share of class 0 as well."""

    def measure(self, output: Any, targets: Any) -> Sums:
        return {**super().measure(output, targets), "zeros": (targets == 0).sum()}

    def metrics(self, sums: Sums, samples: int) -> dict[str, float]:
        return {**super().metrics(sums, samples), "zeros": float(sums["zeros"]) / samples}


class Stubborn(Shares):
    """Measures something that never changes, and something that always falls (which no resume knows of)."""

    lower_is_better = ("falling",)
    higher_is_better = ("flat",)

    def __init__(self, loss: Any) -> None:
        super().__init__(loss)
        self.turns = 0

    def metrics(self, sums: Sums, samples: int) -> dict[str, float]:
        self.turns += 1
        return {**super().metrics(sums, samples), "flat": 1.0, "falling": -float(self.turns)}


class Counted(nn.Conv2d):
    """Counts how often it is computed in training."""

    calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += self.training and torch.is_grad_enabled()
        return super().forward(images)


class Counting(NoisyNet):
    """The noisy model with a first layer that counts."""

    def __init__(self) -> None:
        super().__init__()
        self[0] = Counted(1, 16, 3, padding=1, bias=False)


def calls(job: Job) -> int:
    """What `Counting` counted."""
    return int(job.state.model.get_submodule("0").calls)  # type: ignore[arg-type]


def gradients(job: Job) -> Arrays:
    """What the last update's gradients were, after clipping."""
    return {name: value.grad.clone().numpy() for name, value in job.state.model.named_parameters() if value.grad is not None}


class Casting(NoisyNet):
    """Keeps the types in which its last layer answered, in training and in evaluation."""

    seen: ClassVar[set[tuple[str, str]]] = set()

    def forward(self, images: Tensor) -> Tensor:
        output: Tensor = super().forward(images)
        Casting.seen.add(("training" if self.training else "evaluation", str(output.dtype)))
        return output


def types(job: Job) -> set[tuple[str, str]]:
    """What `Casting` has seen."""
    return Casting.seen


class Zeros:
    """Sixty images that are all 0."""

    def __len__(self) -> int:
        return 60

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.zeros(1, 8, 8), index % 4
