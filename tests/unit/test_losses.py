"""Losses by short name and their options, from YAML's numbers and lists, against their formulas in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from trainer.build import make_loss
from trainer.config.schema import Config
from trainer.distributed import World

Numbers = NDArray[np.float64]
ALONE = World(0, 1, 0, 1, torch.device("cpu"))
RANDOM = np.random.default_rng(3)
SCORES: Numbers = RANDOM.normal(size=(12, 3)) * 2
CLASSES = np.arange(12) % 3
TAGS: Numbers = (RANDOM.normal(size=(12, 3)) > 0).astype(np.float64)
VALUES: Numbers = RANDOM.normal(size=(12, 3)) * 2
SHARES: Numbers = RANDOM.dirichlet(np.ones(3), size=12)
CLASS_WEIGHTS = np.array([1.0, 2.0, 5.0])
ONE_HOT: Numbers = np.eye(3)[CLASSES]


def log_shares(scores: Numbers) -> Numbers:
    return np.asarray(scores - np.log(np.exp(scores).sum(1, keepdims=True)))


def cross_entropy(scores: Numbers, shares: Numbers) -> float:
    return float(-(shares * log_shares(scores)).sum(1).mean())


def weighted(scores: Numbers, classes: NDArray[np.int64]) -> float:
    weights = CLASS_WEIGHTS[classes]
    return float(-(weights * log_shares(scores)[np.arange(12), classes]).sum() / weights.sum())


def binary(scores: Numbers, tags: Numbers, positive: Any = 1.0) -> float:
    chance = 1 / (1 + np.exp(-scores))
    return float(-(positive * tags * np.log(chance) + (1 - tags) * np.log(1 - chance)).mean())


def huber(output: Numbers, wanted: Numbers, delta: float) -> float:
    error = np.abs(output - wanted)
    return float(np.where(error < delta, error**2 / 2, delta * (error - delta / 2)).mean())


LOSSES: dict[str, tuple[dict[str, Any], Any, Callable[[Numbers, Any], float]]] = {
    "cross entropy": ({"target": "cross_entropy"}, CLASSES, lambda scores, _: cross_entropy(scores, ONE_HOT)),
    "label smoothing": (
        {"target": "cross_entropy", "label_smoothing": 0.2},
        CLASSES,
        lambda scores, _: cross_entropy(scores, 0.8 * ONE_HOT + 0.2 / 3),
    ),
    "class weights": ({"target": "cross_entropy", "weight": [1, 2.0, 5]}, CLASSES, weighted),
    "one-hot targets": ({"target": "cross_entropy"}, ONE_HOT, cross_entropy),
    "soft targets": ({"target": "cross_entropy"}, SHARES, cross_entropy),
    "smoothed soft targets": (
        {"target": "cross_entropy", "label_smoothing": 0.1},
        SHARES,
        lambda scores, shares: cross_entropy(scores, 0.9 * shares + 0.1 / 3),
    ),
    "several labels": ({"target": "bce"}, TAGS, binary),
    "several labels, some rare": (
        {"target": "bce", "pos_weight": [1.0, 2.0, 5.0]},
        TAGS,
        lambda scores, tags: binary(scores, tags, CLASS_WEIGHTS),
    ),
    "squares": ({"target": "mse"}, VALUES, lambda output, wanted: float(((output - wanted) ** 2).mean())),
    "absolute errors": ({"target": "l1"}, VALUES, lambda output, wanted: float(np.abs(output - wanted).mean())),
    "Huber": ({"target": "huber", "delta": 0.5}, VALUES, lambda output, wanted: huber(output, wanted, 0.5)),
    "smooth L1": ({"target": "smooth_l1", "beta": 0.5}, VALUES, lambda output, wanted: huber(output, wanted, 0.5) / 0.5),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_its_formula_and_an_option_counts(name: str) -> None:
    target, wanted, formula = LOSSES[name]
    answers = torch.from_numpy(wanted)
    found = loss(target)(torch.from_numpy(SCORES).float(), answers if answers.dtype == torch.int64 else answers.float())
    assert float(found) == pytest.approx(formula(SCORES, wanted), rel=1e-5)


def loss(target: dict[str, Any]) -> Any:
    anything = {"target": "mlp"}
    return make_loss(
        Config.model_validate(
            {"model": anything, "loss": target, "data": {"train": anything, "batch_size": 4}, "optimizer": anything, "train": {"epochs": 1}}
        ),
        ALONE,
    )
