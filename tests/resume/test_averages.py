"""The statistics of the stochastic average are those of what is trained on, in whatever order the set lies on the disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support.exact import fresh, go_on, make_config
from tests.support.ranks import run_ranks
from tests.support.training import train
from trainer.config.schema import Config
from trainer.tasks.classification import Classification

HERE = "tests.resume.test_averages"


class Sorted:
    """Four classes one after another, as in a folder of folders; each has a corner of its own."""

    def __init__(self, each: int = 400) -> None:
        self.each = each

    def __len__(self) -> int:
        return 4 * self.each

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        target = index // self.each
        corner = torch.tensor([target // 2, target % 2] * 2) * 6.0 - 3.0
        return corner + torch.randn(4), target


class Normed(nn.Sequential):
    """Normalised before it is classified; the two inputs must come as two."""

    def __init__(self) -> None:
        super().__init__(nn.BatchNorm1d(4), nn.Linear(4, 4))

    def forward(self, values: Tensor, scale: Tensor) -> Tensor:  # type: ignore[override]
        scores: Tensor = super().forward(values * scale)
        return scores


class Scaled(Classification):
    """Calls the model in its own way."""

    def run(self, model: Any, inputs: Any, targets: Any) -> tuple[Any, Tensor]:
        output = model(inputs, torch.ones(1))
        return output, self.loss(output, targets)


def config(swa: bool, loader_workers: int = 0) -> Config:
    data = {"target": f"{HERE}:Sorted"}
    return make_config(
        2,
        model={"target": f"{HERE}:Normed"},
        data={"train": data, "valid": data, "batch_size": 20, "eval_batch_size": 10, "loader_workers": loader_workers},
        task={"target": f"{HERE}:Scaled"},
        train={"epochs": 3, "ema": None, "swa": {"start_epoch": 1} if swa else None},
    )


def test_a_set_that_is_sorted_by_class_is_classified_as_well_with_the_average(tmp_path: Path) -> None:
    plain, averaged = (train(config(swa), fresh(tmp_path, f"{swa}")).of("valid", "accuracy") for swa in (False, True))
    assert plain[0] == averaged[0], "the average begins later"
    assert min(plain) > 0.95
    assert min(averaged) > 0.95


@pytest.mark.parametrize("loader_workers", [0, 1])
def test_the_average_is_the_same_bits_for_any_workers_and_through_a_stop(tmp_path: Path, loader_workers: int) -> None:
    whole = run_ranks(go_on, 1, config(True), fresh(tmp_path, "whole"), 10**9)[0]
    run_ranks(go_on, 2, config(True, loader_workers), fresh(tmp_path, "parts"), 180)  # of 240: an average is taken already
    parts = run_ranks(go_on, 2, config(True, loader_workers), fresh(tmp_path, "parts"), 10**9)[0]
    assert (parts.step, parts.weights) == (240, whole.weights)
    assert parts.rows == whole.rows
