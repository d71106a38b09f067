"""Samples that cannot be read: named, and either the end or replaced alike whoever reads."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.data_sets import Dice
from tests.unit.data.holed_sets import Holed, HoledBatches, Lengthless, Odd, Opens, Short
from trainer.data.bad_samples import BadSamples
from trainer.data.datasets import ArrayDataset
from trainer.data.keys import sample_keys, seed_sample
from trainer.data.loader import TrainLoader, eval_batches, size_of_batch
from trainer.data.names import size_of
from trainer.data.order import BatchPlan
from trainer.data.transforms import Transformed
from trainer.distributed import World
from trainer.errors import StorageError, TrainingError

PLAN = BatchPlan(48, 12, 6, seed=3)  # every sample is read in each epoch
HOLES = {0, 11, 17, 18, 19, 47}  # three in a row, and the last before the first
INSTEAD = {0: 1, 11: 12, 17: 20, 18: 20, 19: 20, 47: 1}


def read(dataset: Any, bad: BadSamples | None, loader_workers: int = 0, world: int = 1, epoch: int = 1) -> torch.Tensor:
    """All inputs and targets of an epoch in the plan's order, as a job of `world` workers reads them."""
    steps: list[list[torch.Tensor]] = []
    for rank in range(world):
        loader = TrainLoader(dataset, PLAN, rank=rank, world_size=world, loader_workers=loader_workers, bad=bad)
        with contextlib.closing(loader):
            steps.append([torch.cat([torch.cat([x, y[:, None]], dim=1) for x, y in step]) for step in loader.epoch(epoch)])
    return torch.cat([torch.cat(parts) for parts in zip(*steps, strict=True)])


def order(epoch: int = 1) -> list[int]:
    return [int(i) for step in range(PLAN.steps_per_epoch) for i in PLAN.batch(epoch, step)]


@pytest.mark.parametrize("loader_workers", [0, 2])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_the_next_readable_sample_takes_the_place_of_a_bad_one_whoever_reads(world: int, loader_workers: int) -> None:
    found = read(Holed(48, HOLES), BadSamples(9), loader_workers, world)
    expected = []
    dice = Dice(48)
    for index in order():
        seed_sample(int(sample_keys(np.array([index]), 3, 1)[0]))  # the key of the sample whose place it takes
        value, target = dice[INSTEAD.get(index, index)]
        expected.append([*value.tolist(), target])
    assert found.tolist() == expected


def test_samples_that_can_be_read_have_the_bits_that_they_have_without_the_bad_ones() -> None:
    holed, whole = read(Holed(48, HOLES), BadSamples(9)), read(Dice(48), None)
    good = [place for place, index in enumerate(order()) if index not in HOLES]
    assert torch.equal(holed[good], whole[good])
    assert not torch.equal(holed, whole)


@pytest.mark.parametrize("loader_workers", [0, 2])
def test_each_bad_sample_is_said_once_with_its_file_and_what_takes_its_place(loader_workers: int, caplog: pytest.LogCaptureFixture) -> None:
    bad, dataset = BadSamples(2), Holed(48, {17, 30})
    with caplog.at_level(logging.WARNING, logger="trainer"):
        for epoch in (0, 1):
            read(dataset, bad, loader_workers, epoch=epoch)
    lines = [record.getMessage() for record in caplog.records]
    assert sorted(lines) == [
        f"data set Holed: sample {i} (images/{i}.png) cannot be read: OSError: image file is truncated ({i} bytes not processed); "
        f"sample {i + 1} takes its place"
        for i in (17, 30)
    ]


@pytest.mark.parametrize("loader_workers", [0, 1])
def test_more_bad_samples_than_are_allowed_end_the_run_with_the_first_files(loader_workers: int) -> None:
    with pytest.raises(
        TrainingError, match=r"^4 samples cannot be read, more than data.max_bad_samples 3; the first: Holed sample"
    ) as caught:
        read(Holed(48, {3, 9, 27, 40}), BadSamples(3), loader_workers)
    assert str(caught.value).count("images/") == 3
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("loader_workers", [0, 1])
def test_a_bad_sample_that_several_others_meet_counts_once(loader_workers: int, caplog: pytest.LogCaptureFixture) -> None:
    """Nine in a row: looking for a replacement meets 9, 8, 7 … of them, 45 in all."""
    row = set(range(20, 29))
    plan = BatchPlan(48, 48, 1, seed=0, shuffle=False)
    loader = TrainLoader(Holed(48, row), plan, loader_workers=loader_workers, bad=BadSamples(9))
    with contextlib.closing(loader), caplog.at_level(logging.WARNING, logger="trainer"):
        (((_, targets),),) = loader.epoch(0)
    assert targets[19:30].tolist() == [19, *[29] * 10]
    assert len(caplog.records) == 9
    loader = TrainLoader(Holed(48, row | {40}), plan, loader_workers=loader_workers, bad=BadSamples(9))
    with contextlib.closing(loader), pytest.raises(TrainingError, match=r"^10 samples cannot be read, more than data\.max_bad_samples 9"):
        list(loader.epoch(0))


class Turns(Holed):
    """Of the bad samples only those with an even number, or those with an odd one."""

    turn = 0

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return Dice.__getitem__(self, index) if index % 2 != self.turn else super().__getitem__(index)


def test_bad_samples_of_a_later_epoch_are_counted_with_those_of_the_first() -> None:
    dataset, plan = Turns(48, {10, 11, 30, 31}), BatchPlan(48, 48, 1, seed=0, shuffle=False)
    loader = TrainLoader(dataset, plan, bad=BadSamples(3))
    ((_, targets),) = next(loader.epoch(0))
    assert (targets[10], targets[30]) == (11, 31)
    dataset.turn = 1
    with pytest.raises(TrainingError, match=r"^4 samples cannot be read, more than data\.max_bad_samples 3; the first: Turns sample 10 "):
        next(loader.epoch(1))


def test_a_data_set_of_which_nothing_can_be_read_ends_the_run() -> None:
    with pytest.raises(TrainingError, match=r"samples cannot be read, more than data\.max_bad_samples 5"):
        read(Holed(48, set(range(48))), BadSamples(5))
    with pytest.raises(TrainingError, match="data set Holed: not one of its samples can be read"):
        read(Holed(48, set(range(48))), BadSamples(500))


def test_by_default_the_first_bad_sample_ends_the_run_with_its_file() -> None:
    with pytest.raises(TrainingError, match=r"^data set Holed: sample 17 \(images/17.png\) cannot be read: OSError: image file is trunc"):
        read(Transformed(Holed(48, {17}), [abs]), None)
    with pytest.raises(TrainingError, match=r"sample \d+ \(/nowhere/\d+.npy\) cannot be read: FileNotFoundError"):
        read(Opens(48), None)


def test_a_torn_image_of_a_folder_is_named_or_replaced(tmp_path: Path) -> None:
    from PIL import Image

    from trainer.data.vision_sets import image_folder

    for number in range(4):
        path = tmp_path / "cat" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (16, 16), (number * 50, 0, 0)).save(path)
    whole = (tmp_path / "cat" / "2.png").read_bytes()
    (tmp_path / "cat" / "2.png").write_bytes(whole[: len(whole) // 2])
    images = Transformed(image_folder(str(tmp_path)))
    plan = BatchPlan(4, 4, 1, seed=0, shuffle=False)
    with pytest.raises(TrainingError, match=r"data set ImageFolder: sample 2 \(.*cat/2.png\) cannot be read: "):
        next(TrainLoader(images, plan).epoch(0))
    ((inputs, _),) = next(TrainLoader(images, plan, bad=BadSamples(1)).epoch(0))
    assert torch.equal(inputs[2], inputs[3])
    assert not torch.equal(inputs[0], inputs[1])


def test_a_data_set_that_reads_whole_batches_fails_in_any_case() -> None:
    with pytest.raises(TrainingError, match="data set HoledBatches: a batch cannot be read: OSError: torn"):
        list(TrainLoader(HoledBatches(), BatchPlan(50, 10, 1, seed=0), bad=BadSamples(9)).epoch(0))


def test_running_out_of_memory_is_no_bad_sample() -> None:
    class Hungry(Dice):
        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            raise MemoryError("too much")

    with pytest.raises(TrainingError, match="cannot be read: MemoryError: too much"):
        read(Hungry(48), BadSamples(99))


class Troubled(Holed):
    """The sample that is to take a bad one's place meets something worse than a bad sample."""

    def __init__(self, trouble: Exception) -> None:
        super().__init__(48, {17})
        self.trouble = trouble

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        if index == 18:
            raise self.trouble
        return super().__getitem__(index)


@pytest.mark.parametrize("loader_workers", [0, 1])
@pytest.mark.parametrize("trouble", [MemoryError("too much"), StorageError("the disk is gone")], ids=["memory", "ours"])
def test_what_is_worse_than_a_bad_sample_ends_the_run_also_where_it_would_take_a_place(trouble: Exception, loader_workers: int) -> None:
    plan = BatchPlan(48, 18, 1, seed=0, shuffle=False)  # the first batch ends with the bad one
    loader = TrainLoader(Troubled(trouble), plan, loader_workers=loader_workers, bad=BadSamples(9))
    with contextlib.closing(loader), pytest.raises(TrainingError) as caught:
        next(loader.epoch(0))
    said = f"data set Troubled: sample 18 (images/18.png) cannot be read: {type(trouble).__name__}: {trouble} ("
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


class Mixed(Holed):
    """One that cannot be read, and one of another shape."""

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return (torch.zeros(5), index) if index == 7 else super().__getitem__(index)


@pytest.mark.parametrize("bad", [{0, 3}, {3}, {6}])
def test_the_sample_that_is_not_like_the_others_is_named_beside_bad_ones(bad: set[int]) -> None:
    first = "sample 1" if 0 in bad else "sample 0"
    text = rf"^data set Mixed: sample 7 \(images/7.png\), \[5\] and int, does not go into one batch with {first} "
    with pytest.raises(TrainingError, match=text):
        list(eval_batches(Mixed(12, bad), 12, bad=BadSamples(9)))
    plan = BatchPlan(12, 12, 1, seed=0, shuffle=False)
    with pytest.raises(TrainingError, match=text):
        next(TrainLoader(Mixed(12, bad), plan, bad=BadSamples(9)).epoch(0))


@pytest.mark.parametrize("loader_workers", [0, 2])
@pytest.mark.parametrize("world", [1, 3])
def test_an_evaluation_leaves_bad_samples_out(world: int, loader_workers: int, caplog: pytest.LogCaptureFixture) -> None:
    dataset, bad = Holed(30, {4, *range(10, 20)}), BadSamples(11)
    batches = {}
    for rank in range(world):
        for k, inputs, targets in eval_batches(dataset, 10, rank=rank, world_size=world, loader_workers=loader_workers, bad=bad):
            batches[k] = (size_of_batch(inputs), None if targets is None else targets.tolist())
    assert batches == {0: (9, [0, 1, 2, 3, 5, 6, 7, 8, 9]), 1: (0, None), 2: (10, list(range(20, 30)))}
    assert "sample 4 (images/4.png) cannot be read" in caplog.text
    assert "it is left out" in caplog.text


def test_the_size_of_a_batch_is_that_of_its_first_tensor() -> None:
    assert size_of_batch(torch.zeros(5, 2)) == 5
    assert size_of_batch({"ids": torch.zeros(4, 9), "mask": torch.zeros(4, 9)}) == 4
    assert size_of_batch([torch.zeros(3), torch.zeros(3)]) == 3
    assert size_of_batch(["one", "two"]) == 2


def test_bad_samples_of_two_sets_are_counted_apart_and_together() -> None:
    bad = BadSamples(3)
    world = World(0, 1, 0, 1, torch.device("cpu"))
    for dataset in (Holed(12, {1, 2}), Holed(12, {2, 3})):
        try:
            list(eval_batches(dataset, 4, bad=bad))
        except TrainingError as error:
            assert str(error).startswith("4 samples cannot be read, more than data.max_bad_samples 3")
            break
        bad.together(world)
    else:
        raise AssertionError("4 bad samples in two sets went through with a limit of 3")


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        ((torch.zeros(3, 3), 7), r"sample 7, \[3, 3\] and int, does not go into one batch with sample 0, \[3, 2\] and int"),
        ((object(), 7), r"sample 7, object and int, does not go into one batch with sample 0"),
        (torch.zeros(2, 3), r"sample 7 cannot be read: TypeError: it is a Tensor, not a pair \(input, target\)"),
        ((torch.zeros(3, 2), 1, 2), r"sample 7 cannot be read: TypeError: it is a tuple of 3, not a pair \(input, target\)"),
        (None, r"sample 7 cannot be read: TypeError: it is a NoneType, not a pair"),
    ],
)
@pytest.mark.parametrize("loader_workers", [0, 1])
def test_a_sample_that_is_not_like_the_others_is_named(odd: Any, said: str, loader_workers: int) -> None:
    plan = BatchPlan(12, 12, 1, seed=0, shuffle=False)
    loader = TrainLoader(Odd(12, 7, odd), plan, loader_workers=loader_workers)
    with pytest.raises(TrainingError, match=f"^data set Odd: {said}") as caught:
        next(loader.epoch(0))
    loader.close()
    assert "\n" not in str(caught.value)


def test_a_length_that_lies_or_is_missing_and_an_empty_set_are_one_line() -> None:
    with pytest.raises(TrainingError, match=r"data set Short: sample \d+ cannot be read: IndexError"):
        read(Short(48), None)
    with pytest.raises(
        TrainingError, match=r"^training set Lengthless: its length is not known \(TypeError: .*\); a data set has len\(d\)"
    ):
        size_of(Lengthless(), "training set")
    for empty in (Dice(0), ArrayDataset(torch.zeros(0), torch.zeros(0)), Transformed(Dice(0))):
        with pytest.raises(TrainingError, match=r"^data set \w+: it has no samples; look at its arguments, or leave it out of the config$"):
            next(eval_batches(empty, 10))


@pytest.mark.parametrize(("n", "batch", "ranks", "drop_last"), [(0, 8, 2, True), (7, 8, 2, True), (1, 8, 2, False), (3, 4, 4, True)])
def test_a_training_set_too_small_for_one_update_is_one_line(n: int, batch: int, ranks: int, drop_last: bool) -> None:
    with pytest.raises(TrainingError, match=rf"^the training set has {n} samples, less than one [^\n]*; use a [^\n]*$"):
        BatchPlan(n, batch, ranks, seed=0, drop_last=drop_last)
