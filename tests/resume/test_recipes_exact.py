"""Recipes as we ship them keep their bits: on one, two and four workers, and through a stop in the middle."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.config_data import ROOT, go_on_in, small, write_data
from tests.support.exact import Result
from tests.support.ranks import run_ranks
from trainer.config.schema import Config

END = 10**9

# What each brings that could part two runs, how many updates make its point, and after which one it is stopped.
RECIPES: dict[str, tuple[int, tuple[str, ...]]] = {
    "digits": (5, ("train.epochs=2", "train.max_steps=8", "data.batch_size=64")),
    "cifar10_fast": (2, ("train.epochs=1", "train.max_steps=4")),  # bf16, channels_last, Cutout on whole batches
    "finetune": (6, ("train.epochs=2", "freeze.0.until_epoch=1")),  # four updates an epoch; in the second one the backbone moves too
    "regression": (40, ("train.epochs=2", "train.max_steps=60", "schedule.patience=0")),  # a split, dropout, plateau
    "char_lm": (6, ("train.epochs=2", "train.max_steps=10")),  # a user's model and task, GRU, clipping
    "user_model": (4, ("train.epochs=2", "train.max_steps=6")),  # a user's data set and loss
}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data of all configs."""
    folder = tmp_path_factory.mktemp("recipes")
    write_data(folder)
    return folder


def run(filled: Path, config: Config, folder: Path, world: int, stop_at: int = END) -> Result:
    """Go on with so many workers; all must agree on the weights."""
    results = run_ranks(go_on_in, world, filled, config, str(folder), stop_at)
    assert len({result.weights for result in results}) == 1
    return results[0]


def bits(result: Result) -> tuple[object, ...]:
    return result.weights, result.optimizer, result.ema, result.rows


@pytest.mark.parametrize("name", list(RECIPES))
def test_a_recipe_has_the_same_bits_on_one_two_and_four_workers_and_through_a_resume(filled: Path, tmp_path: Path, name: str) -> None:
    middle, overrides = RECIPES[name]
    config = small(ROOT / "configs" / f"{name}.yaml", 4, *overrides)
    alone = run(filled, config, tmp_path / "w1", 1)
    assert alone.finished
    assert bits(run(filled, config, tmp_path / "w4", 4)) == bits(alone)
    first = run(filled, config, tmp_path / "broken", 4, stop_at=middle)
    assert (first.step, first.finished) == (middle, False)
    assert first.weights != alone.weights
    assert bits(run(filled, config, tmp_path / "broken", 2)) == bits(alone)
