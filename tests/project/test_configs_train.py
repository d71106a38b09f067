"""Every config that we ship trains, on one worker and on two, on data in the format that it says."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from tests.support.config_data import CONFIGS, go_on_in, small, write_data
from tests.support.exact import Result
from tests.support.ranks import run_ranks


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data of all configs."""
    folder = tmp_path_factory.mktemp("configs")
    write_data(folder)
    return folder


def losses(result: Result, split: str) -> list[float]:
    return [row["loss"] for row in result.rows if row["split"] == split]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_it_trains_two_steps_to_the_same_weights_on_one_worker_and_on_two(filled: Path, tmp_path: Path, path: Path) -> None:
    config = small(path, 2, "train.max_steps=2")
    found = []
    for world in (1, 2):
        results = run_ranks(go_on_in, world, filled, config, str(tmp_path / f"w{world}"))
        assert len({result.weights for result in results}) == 1
        found.append(results[0])
    alone, both = found
    assert alone.finished
    assert alone.step == 2
    assert len(losses(alone, "train")) == 2
    assert all(math.isfinite(loss) for split in ("train", "valid") for loss in losses(alone, split))
    assert len(losses(alone, "valid")) == 1
    assert (both.weights, both.optimizer, both.ema, both.rows) == (alone.weights, alone.optimizer, alone.ema, alone.rows)


def test_the_finetuning_recipe_also_takes_its_validation_set_from_one_folder(filled: Path, tmp_path: Path) -> None:
    path = next(path for path in CONFIGS if path.stem == "finetune")
    config = small(path, 2, "train.max_steps=1", "data.valid=null", "data.valid_fraction=0.25", "data.stratified=true")
    (result,) = run_ranks(go_on_in, 1, filled, config, str(tmp_path / "run"))
    assert len(losses(result, "valid")) == 1
