"""Small real runs to evaluate, to ask and to export; and a data set and models of a user's own."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.support.jobs import ostinato
from trainer.rundir import RunDir

PRIME = 271
"""Samples of the digits' test set: a number that no number of workers divides."""
SHARES = {"test_fraction": 0.1508, "valid_fraction": 0.1}

DIGITS: dict[str, Any] = {
    "model": {"target": "cnn", "in_channels": 1, "num_classes": 10, "width": 4},
    "data": {
        "train": {"target": "digits", "split": "train", **SHARES},
        "valid": {"target": "digits", "split": "valid", **SHARES},
        "test": {"target": "digits", "split": "test", **SHARES},
        "batch_size": 48,
        "eval_batch_size": 32,
    },
    "optimizer": {"target": "sgd", "lr": 0.1, "momentum": 0.9},
    "train": {"epochs": 2, "ema": {"decay": 0.9}},
    "hardware": {"threads": 1, "device": "cpu"},
    "log": {"tensorboard": False},
}


def trained(folder: Path, name: str, config: dict[str, Any]) -> RunDir:
    """Train a config in a folder, to its end."""
    (folder / f"{name}.yaml").write_text(json.dumps({"hardware": {"threads": 1, "device": "cpu"}, "log": {"tensorboard": False}, **config}))
    done = ostinato(folder, "train", f"{name}.yaml")
    assert done.returncode == 0, done.stderr
    return RunDir(folder / "runs" / name)


def written(run: RunDir) -> dict[str, str]:
    """The digest of each file that training has written."""
    files = [path for path in run.path.rglob("*") if path.is_file()]
    ours = [path for path in files if not {"evaluations", "exports"} & set(path.relative_to(run.path).parts)]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() + str(path.stat().st_mtime_ns) for path in ours}


def answers(folder: Path, *arguments: str, code: int = 0) -> list[dict[str, Any]]:
    """What ``ostinato predict … --json`` says."""
    done = ostinato(folder, "predict", *arguments, "--json")
    assert done.returncode == code, done.stdout + done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


class Fickle(nn.Module):
    """A model that is another one each time it is made, by something that is no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 10)
        self.scale = 1 + random.SystemRandom().random()

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.layer(x.flatten(1)) * self.scale
        return scores


class Bigram(nn.Module):
    """A language model with the classes before the length: what comes next is told by the last character alone."""

    def __init__(self, characters: int) -> None:
        super().__init__()
        self.scores = nn.Embedding(characters, characters)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.scores(x).transpose(1, 2)
        return scores


class Pairs:
    """A data set whose inputs are two tensors each."""

    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> tuple[dict[str, Tensor], int]:
        value = torch.full((4,), float(index))
        return {"left": value, "right": -value}, index % 2


class Sides:
    """Numbers below and above zero, or only one of the two classes."""

    def __init__(self, only: int | None = None) -> None:
        self.only = only

    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        side = index % 2 if self.only is None else self.only
        return torch.full((4,), (index + 1.0) * (2 * side - 1)), side


class Sum(nn.Module):
    """A model of two tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 2)

    def forward(self, both: dict[str, Tensor]) -> Tensor:
        scores: Tensor = self.layer(torch.cat([both["left"], both["right"]], 1) / 24)
        return scores
