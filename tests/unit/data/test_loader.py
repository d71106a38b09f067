"""What the loaders read, whoever reads it and wherever the reading starts."""

from __future__ import annotations

import random
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.data_sets import Broken, Dice, Unpicklable
from tests.unit.data.noise_sets import LockedNoisySums, NoisyBatches, NoisySums, Switches
from trainer.data.datasets import ArrayDataset, Digits
from trainer.data.loader import TrainLoader, eval_batches
from trainer.data.order import BatchPlan
from trainer.errors import TrainingError

PLAN = BatchPlan(50, 8, 4, seed=3)


def read(dataset: Any, workers: int = 0, epoch: int = 1, start: int = 0, world: int = 1, plan: BatchPlan = PLAN) -> list[torch.Tensor]:
    """The inputs of an epoch as a job of `world` workers reads them: a tensor a step, the virtual ranks one after the other."""
    steps: list[list[torch.Tensor]] = []
    for rank in range(world):
        loader = TrainLoader(dataset, plan, rank=rank, world_size=world, loader_workers=workers)
        steps.append([torch.cat([inputs for inputs, _ in step]) for step in loader.epoch(epoch, start)])
        loader.close()
    return [torch.cat(parts) for parts in zip(*steps, strict=True)]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return len(one) == len(other) > 0 and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(("workers", "world"), [(0, 1), (0, 2), (0, 4), (1, 2), (2, 1), (2, 2)])
def test_what_a_data_set_draws_depends_on_seed_epoch_and_sample_alone(workers: int, world: int) -> None:
    expected = read(Dice(50))
    random.seed(99)
    np.random.seed(99)
    torch.manual_seed(99)
    assert same(read(Dice(50), workers, world=world), expected)
    assert same(read(Dice(50), workers, start=3, world=world), expected[3:])


def test_another_epoch_or_seed_draws_other_numbers_for_the_same_sample() -> None:
    drawn = set()
    for epoch, seed in [(0, 0), (1, 0), (0, 1)]:
        plan = BatchPlan(8, 8, 1, seed)
        (((inputs, targets),),) = TrainLoader(Dice(8), plan).epoch(epoch)
        drawn.update(map(tuple, inputs.tolist()))
        assert sorted(targets.tolist()) == list(range(8))
        assert len(set(inputs.flatten().tolist())) == 24  # no two samples and no two generators draw alike
    assert len(drawn) == 24


def test_the_steps_are_the_plans_micro_batches() -> None:
    plan = BatchPlan(30, 8, 4, seed=0, drop_last=False)
    loader = TrainLoader(Dice(30), plan, rank=1, world_size=2)
    steps = [[targets.tolist() for _, targets in step] for step in loader.epoch(5)]
    assert steps == [[plan.micro_batch(5, step, v).tolist() for v in (2, 3)] for step in range(4)]


def test_an_epoch_can_be_left_midway_and_the_next_one_is_whole() -> None:
    expected = read(Dice(50), epoch=2)
    loader = TrainLoader(Dice(50), PLAN, loader_workers=2)
    pids = []
    for stop_after in (1, 3):
        steps = loader.epoch(1)
        for _ in range(stop_after):
            next(steps)
        pids.append([worker.pid for worker in loader._iterator._workers])
    got = [torch.cat([inputs for inputs, _ in step]) for step in loader.epoch(2)]
    assert same(got, expected)
    assert pids[0] == pids[1]  # the same processes read every epoch
    loader.close()


def test_whole_batches_are_read_from_a_data_set_that_offers_them() -> None:
    digits = Digits("train")
    plan = BatchPlan(len(digits), 64, 4, seed=0)
    for workers in (0, 1):
        loader = TrainLoader(digits, plan, rank=1, world_size=2, loader_workers=workers)
        step = next(iter(loader.epoch(0)))
        for v, (inputs, targets) in zip((2, 3), step, strict=True):
            rows = torch.from_numpy(plan.micro_batch(0, 0, v))
            assert torch.equal(inputs, digits.inputs[rows])
            assert torch.equal(targets, digits.targets[rows])
        loader.close()


@pytest.mark.parametrize(("workers", "world"), [(0, 1), (0, 4), (1, 2), (2, 1)])
def test_noise_drawn_for_a_whole_batch_depends_on_seed_epoch_and_batch_alone(workers: int, world: int) -> None:
    expected = read(NoisyBatches())
    assert len({value for step in expected for value in step[:, 0].tolist()}) == 48
    torch.manual_seed(99)
    assert same(read(NoisyBatches(), workers, world=world), expected)
    assert same(read(NoisyBatches(), workers, start=3, world=world), expected[3:])
    assert not same(read(NoisyBatches(), epoch=2), expected)


def test_an_evaluation_draws_noise_for_a_whole_batch_alike_whoever_reads() -> None:
    whole = [inputs for _, inputs, _ in eval_batches(NoisyBatches(), 10)]
    shared = {k: inputs for rank in range(2) for k, inputs, _ in eval_batches(NoisyBatches(), 10, rank=rank, world_size=2)}
    assert same([shared[k] for k in sorted(shared)], whole)


def test_large_sums_have_the_same_bits_whoever_reads() -> None:
    plan = BatchPlan(8, 8, 1, seed=0)
    torch.set_num_threads(1)
    alone = read(NoisySums(), plan=plan)
    torch.set_num_threads(2)
    here = read(NoisySums(), plan=plan)
    assert not same(alone, here)  # else the test shows nothing
    assert same(read(NoisySums(), workers=2, plan=plan), here)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_large_sums_have_the_same_bits_in_forked_processes() -> None:
    torch.set_num_threads(2)
    plan = BatchPlan(8, 8, 1, seed=0)
    here = read(LockedNoisySums(), plan=plan)
    assert same(read(LockedNoisySums(), workers=2, plan=plan), here)


@pytest.mark.parametrize("deterministic", [0, 1, 2])
def test_loader_workers_have_the_switches_of_the_process_that_made_the_loader(deterministic: int) -> None:
    torch.set_num_threads(2)
    before = torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode(deterministic)
    try:
        (inputs,) = read(Switches(), workers=1, plan=BatchPlan(8, 8, 1, seed=0))
    finally:
        torch.set_deterministic_debug_mode(before)
    assert inputs.tolist() == [[2, deterministic]] * 8


@pytest.mark.parametrize("workers", [0, 1])
def test_a_sample_that_cannot_be_read_is_named_with_reason_and_line(workers: int) -> None:
    loader = TrainLoader(Broken(50, bad=17), PLAN, loader_workers=workers)
    with pytest.raises(TrainingError) as caught:
        list(loader.epoch(next(e for e in range(99) if 17 in np.concatenate([PLAN.batch(e, s) for s in range(6)]))))
    loader.close()
    line = str(caught.value)
    assert line.startswith("data set Broken: sample 17 cannot be read: ValueError: the file is torn (")
    assert "data_sets.py:" in line
    assert "\n" not in line
    assert "ValueError: the file is torn" in "".join(traceback.format_exception(caught.value))


def test_samples_that_make_no_batch_are_told() -> None:
    class Strings(Dice):
        def __getitem__(self, index: int) -> Any:
            return object(), index

    with pytest.raises(TrainingError, match=r"data set Strings: sample \d+ is of a kind that no batch can be made of: TypeError"):
        next(TrainLoader(Strings(50), PLAN).epoch(0))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_data_set_that_cannot_be_pickled_is_read_by_forked_processes() -> None:
    assert same(read(Unpicklable(50), workers=2), read(Dice(50)))


def test_a_plan_for_another_set_is_refused() -> None:
    with pytest.raises(TrainingError, match="the plan is for 50 samples, the data set has 49"):
        TrainLoader(Dice(49), PLAN)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_an_evaluation_sees_every_sample_once_in_fixed_batches(world: int) -> None:
    found: dict[int, list[int]] = {}
    for rank in range(world):
        for number, _, targets in eval_batches(Dice(53), 10, rank=rank, world_size=world):
            assert number not in found
            found[number] = targets.tolist()
    assert [found[k] for k in sorted(found)] == [list(range(k, min(k + 10, 53))) for k in range(0, 53, 10)]


def test_an_evaluation_draws_the_same_whoever_reads() -> None:
    here = [inputs for _, inputs, _ in eval_batches(Dice(25), 10, seed=4)]
    there = [inputs for _, inputs, _ in eval_batches(Dice(25), 10, seed=4, loader_workers=2)]
    assert same(here, there)


def test_an_evaluation_may_be_left_midway() -> None:
    batches = eval_batches(Dice(100), 10, loader_workers=1)
    assert next(batches)[0] == 0
    batches.close()  # type: ignore[attr-defined]


def test_more_workers_than_batches_leave_some_with_nothing() -> None:
    assert list(eval_batches(Dice(5), 10, rank=1, world_size=2, loader_workers=2)) == []


def test_images_of_torchvision_are_read_in_other_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.support.cifar_files import accept_cifar10, write_cifar10
    from trainer.data.datasets import cifar10
    from trainer.data.transforms import Transformed

    accept_cifar10(monkeypatch, write_cifar10(tmp_path))
    from torchvision.transforms import v2

    images = Transformed(cifar10(str(tmp_path)), [v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip()])
    plan = BatchPlan(50, 10, 2, seed=0)
    here = read(images, plan=plan)
    assert here[0].shape == (10, 3, 32, 32)
    assert same(read(images, workers=1, plan=plan), here)
    assert not same(read(images, epoch=2, plan=plan), here)


def test_an_array_data_set_refuses_inputs_and_targets_of_different_numbers() -> None:
    with pytest.raises(TrainingError, match="3 inputs and 2 targets"):
        ArrayDataset(torch.zeros(3), torch.zeros(2))
