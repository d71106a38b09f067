"""The same bits on any number of workers that divides V, and through resumes inside an epoch on changing numbers of workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.exact import Result, fresh, go_on, make_config, plain_all_reduce, scheduler_after_loading
from tests.support.ranks import RankFailed, run_ranks

END = 10**9


def run(config: Any, folder: str, world_size: int, stop_at: int = END, sabotage: Any = None) -> Result:
    """Run on so many workers; all must agree on the weights."""
    results = run_ranks(go_on, world_size, config, folder, stop_at, sabotage)
    assert len({r.weights for r in results}) == 1
    return results[0]


def same(one: Result, two: Result) -> bool:
    return (one.weights, one.optimizer, one.ema, one.rows) == (two.weights, two.optimizer, two.ema, two.rows)


RECIPES: dict[str, dict[str, Any]] = {
    "sgd": {},
    "adam": {"optimizer": {"target": "adamw", "lr": 0.003}, "schedule": {"target": "one_cycle"}},
    "bf16": {"train": {"epochs": 3, "amp": "bf16", "ema": {"decay": 0.9}, "clip": {"value": 0.05}}},
    "fp16 and a torch scheduler": {
        "train": {"epochs": 3, "amp": "fp16"},
        "schedule": {"target": "torch.optim.lr_scheduler:LinearLR", "start_factor": 0.25, "total_iters": 3},
    },
    "a rest and a plateau": {
        "data": {
            "train": {"target": "tests.support.noisy:NoisyImages"},
            "valid": {"target": "tests.support.noisy:NoisyImages", "size": 53},
            "batch_size": 48,
            "drop_last": False,
        },
        "optimizer": {"target": "sgd", "lr": 0.1, "momentum": 0.9},
        "schedule": {"target": "plateau", "patience": 0, "factor": 0.3},
    },
}


def recipe(name: str, virtual_ranks: int, **more: Any) -> Any:
    sections = {key: dict(value) for key, value in RECIPES[name].items()}
    sections.setdefault("train", {"epochs": 3, "clip": {"norm": 1.0}, "ema": {"decay": 0.9}})["virtual_ranks"] = virtual_ranks
    for section, values in more.items():
        sections[section] = {**sections.get(section, {}), **values}
    return make_config(virtual_ranks, **sections)


@pytest.mark.parametrize(("virtual_ranks", "worlds"), [(12, (2, 3, 4, 6)), (8, (2, 4, 8))])
@pytest.mark.parametrize("name", list(RECIPES))
def test_any_number_of_workers_that_divides_the_virtual_ranks_gives_the_same_bits(
    tmp_path: Path, name: str, virtual_ranks: int, worlds: tuple[int, ...]
) -> None:
    config = recipe(name, virtual_ranks)
    alone = run(config, fresh(tmp_path, "w1"), 1)
    assert alone.finished
    for world in worlds:
        assert same(run(config, fresh(tmp_path, f"w{world}"), world), alone), f"{world} workers"


@pytest.mark.parametrize("name", list(RECIPES))
def test_three_resumes_in_one_epoch_on_changing_numbers_of_workers_give_the_same_bits(tmp_path: Path, name: str) -> None:
    config = recipe(name, 12, train={**RECIPES[name].get("train", {"clip": {"norm": 1.0}, "ema": {"decay": 0.9}}), "epochs": 2})
    whole = run(config, fresh(tmp_path, "whole"), 3)
    broken = fresh(tmp_path, "broken")
    for world, stop_at in ((3, 1), (6, 2), (4, 3)):  # an epoch has four or five updates
        part = run(config, broken, world, stop_at)
        assert part.step == stop_at
        assert not part.finished
    assert same(run(config, broken, 3), whole)


def test_loader_workers_do_not_change_a_bit_on_any_number_of_workers(tmp_path: Path) -> None:
    config = recipe("sgd", 4)
    alone = run(config, fresh(tmp_path, "here"), 1)
    data = {**config.data.model_dump(), "loader_workers": 2}
    there = config.model_copy(update={"data": type(config.data).model_validate(data)})
    for world in (1, 4):
        assert same(run(there, fresh(tmp_path, f"w{world}"), world), alone)


@pytest.mark.parametrize("model", ["Rebinding", "Forgetful"])
def test_buffers_that_a_model_replaces_or_leaves_out_of_its_state_are_exact_too(tmp_path: Path, model: str) -> None:
    config = make_config(4, model={"target": f"tests.support.noisy:{model}"})
    alone = run(config, fresh(tmp_path, "w1"), 1)
    assert same(run(config, fresh(tmp_path, "w4"), 4), alone)
    broken = fresh(tmp_path, "broken")
    run(config, broken, 2, stop_at=3)
    assert same(run(config, broken, 4), alone)


def test_a_model_that_draws_in_evaluation_and_a_set_that_draws_in_batches_are_exact(tmp_path: Path) -> None:
    data = {"train": {"target": "tests.support.noisy:NoisyBatches"}, "valid": {"target": "tests.support.noisy:NoisyBatches"}}
    config = make_config(4, model={"target": "tests.support.noisy:Dreaming"}, data={**data, "batch_size": 48, "eval_batch_size": 16})
    alone = run(config, fresh(tmp_path, "w1"), 1)
    assert same(run(config, fresh(tmp_path, "w4"), 4), alone)


def test_a_parameter_that_takes_no_part_is_refused_on_any_number_of_workers(tmp_path: Path) -> None:
    config = make_config(4, model={"target": "tests.support.noisy:Idle"})
    for world in (1, 2, 4):
        with pytest.raises(RankFailed, match=r"TrainingError: model: spare\.weight, spare\.bias took no part in the first step"):
            run(config, fresh(tmp_path, f"w{world}"), world)


# Controls: what these tests would miss if their model and data were not sensitive enough.


def test_control_without_the_tree_four_workers_differ_from_one(tmp_path: Path) -> None:
    config = recipe("sgd", 4)
    alone = run(config, fresh(tmp_path, "w1"), 1)
    assert same(run(config, fresh(tmp_path, "w4"), 4), alone)
    assert run(config, fresh(tmp_path, "plain"), 4, sabotage=plain_all_reduce).weights != alone.weights


def test_control_with_a_generator_for_each_worker_three_workers_differ_from_one(tmp_path: Path) -> None:
    data = {"train": {"target": "tests.support.noisy:LooseImages"}, "batch_size": 48}
    config = make_config(3, data=data, log={"fingerprint_every": 0})
    assert run(config, fresh(tmp_path, "w1"), 1).weights != run(config, fresh(tmp_path, "w3"), 3).weights


def test_control_with_the_scheduler_made_after_loading_a_resumed_run_differs(tmp_path: Path) -> None:
    config = recipe("fp16 and a torch scheduler", 3)
    whole = run(config, fresh(tmp_path, "whole"), 3)
    for sabotage, equal in ((None, True), (scheduler_after_loading, False)):
        folder = fresh(tmp_path, f"equal-{equal}")
        run(config, folder, 3, stop_at=6)
        assert (run(config, folder, 3, sabotage=sabotage).weights == whole.weights) is equal


def test_weights_in_another_order_of_memory_are_summed_at_their_own_places(tmp_path: Path) -> None:
    config = make_config(6, model={"target": "tests.support.noisy:ChannelsLast"}, train={"epochs": 1})
    alone = run_ranks(go_on, 1, config, fresh(tmp_path, "w1"), 99)[0]
    for workers in (2, 3):
        assert run_ranks(go_on, workers, config, fresh(tmp_path, f"w{workers}"), 99)[0] == alone
