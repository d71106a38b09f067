"""A share set aside: disjoint, complete, of the right size, and a function of the labels, the share and the seed alone."""

from __future__ import annotations

import pickle
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.data_sets import Dice
from tests.support.image_files import write_folder
from trainer.data.arrays import Arrays
from trainer.data.datasets import ArrayDataset, fake_data
from trainer.data.images import image_folder
from trainer.data.labels import check_labels
from trainer.data.names import said
from trainer.data.splits import check_same_classes, class_labels, split, split_indices, subset
from trainer.errors import TrainingError

labels = st.lists(st.integers(0, 5), min_size=2, max_size=80).map(np.array)
fractions = st.floats(0.01, 0.99)
seeds = st.integers(0, 2**63 - 1)


def parts(labels: np.ndarray | int, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray] | None:
    """The two parts; None where one would be empty, which is refused."""
    n = labels if isinstance(labels, int) else len(labels)
    if not 0 < round(n * fraction) < n:
        with pytest.raises(ValueError, match="leaves a part empty"):
            split_indices(labels, fraction, seed)
        return None
    return split_indices(labels, fraction, seed)


@settings(deadline=None)
@given(labels, fractions, seeds)
def test_the_parts_share_no_sample_and_miss_none(labels: np.ndarray, fraction: float, seed: int) -> None:
    for given_labels in (labels, len(labels)):
        found = parts(given_labels, fraction, seed)
        if found is not None:
            assert sorted(np.concatenate(found).tolist()) == list(range(len(labels)))
            assert all(part.tolist() == sorted(part.tolist()) for part in found)


@settings(deadline=None)
@given(labels, fractions, seeds)
def test_a_share_has_the_size_asked_for_in_all_and_to_one_sample_in_each_class(labels: np.ndarray, fraction: float, seed: int) -> None:
    found = parts(labels, fraction, seed)
    if found is not None:
        share = labels[found[1]]
        assert len(share) == round(len(labels) * fraction)
        exact = len(share) / len(labels)
        for label in np.unique(labels):
            assert abs(int((share == label).sum()) - exact * int((labels == label).sum())) < 1


@settings(deadline=None)
@given(st.lists(st.tuples(labels, fractions, seeds), min_size=2, max_size=4), st.randoms(use_true_random=False))
def test_a_share_depends_on_no_call_before_it_and_on_no_generator(
    calls: list[tuple[np.ndarray, float, int]], shuffler: random.Random
) -> None:
    def made(call: tuple[np.ndarray, float, int]) -> object:
        random.seed(shuffler.random())
        torch.manual_seed(shuffler.randrange(1000))
        found = parts(*call)
        return None if found is None else [part.tolist() for part in found]

    first = [made(call) for call in calls]
    order = list(range(len(calls)))
    shuffler.shuffle(order)
    assert {number: made(calls[number]) for number in order} == dict(enumerate(first))


def test_a_seed_means_the_same_samples_for_ever() -> None:
    assert split_indices(20, 0.25, 0)[1].tolist() == [5, 13, 14, 18, 19]
    assert split_indices(np.arange(20) % 4, 0.25, 7)[1].tolist() == [7, 8, 9, 10, 16]


def test_each_seed_takes_another_share_and_each_sample_gets_its_turn() -> None:
    shares = [tuple(split_indices(40, 0.25, seed)[1].tolist()) for seed in range(200)]
    assert len(set(shares)) == 200
    counts = np.bincount([number for share in shares for number in share], minlength=40)
    assert counts.min() > 25  # 50 expected, with a standard deviation of 6
    assert counts.max() < 75


def test_a_stratified_share_keeps_rare_classes_where_a_plain_one_may_not() -> None:
    rare = Arrays(torch.arange(100.0).unsqueeze(1), torch.tensor([1] * 10 + [0] * 90))
    counts = {seed: int((split(rare, 0.2, seed)[1].targets == 1).sum()) for seed in range(30)}
    assert len(set(counts.values())) > 1
    assert {int((split(rare, 0.2, seed, stratified=True)[1].targets == 1).sum()) for seed in range(30)} == {2}


def test_a_part_keeps_classes_labels_and_the_reading_of_whole_batches() -> None:
    whole = Arrays(torch.arange(10.0).unsqueeze(1), torch.arange(10) % 2, ["even", "odd"])
    part = subset(whole, np.array([7, 2, 4]))
    assert (len(part), part.classes, part.targets.tolist()) == (3, ["even", "odd"], [1, 0, 0])
    assert part.get_batch(np.array([2, 0]))[0].tolist() == [[4], [7]]  # type: ignore[attr-defined]
    assert part[1][0].tolist() == [2]
    again = pickle.loads(pickle.dumps(part))
    assert again[0][0].tolist() == [7]
    with pytest.raises(TrainingError, match="sample 0 has label 1; the model has 1 classes"):
        check_labels(part, 1)
    assert not hasattr(subset(Dice(5), np.array([0])), "get_batch")
    assert not hasattr(subset(Dice(5), np.array([0])), "targets")


def test_a_part_of_a_folder_of_images_names_the_files(tmp_path: Path) -> None:
    images = image_folder(str(write_folder(tmp_path, per_class=4)))
    rest, share = split(images, 0.25, 0, stratified=True)
    assert sorted(share.targets.tolist()) == [0, 1]
    assert (len(rest), rest.classes) == (6, ["ants", "bees"])
    assert images.samples[int(share.indices[1])][0] in said(share, 1)


def test_classes_are_found_wherever_they_are_at_hand() -> None:
    assert class_labels(subset(ArrayDataset(torch.zeros(4, 1), torch.tensor([2, 0, 1, 1])), np.array([3, 0]))).tolist() == [1, 2]
    images = fake_data(size=30, num_classes=3)
    assert class_labels(images).tolist() == [int(images[i][1]) for i in range(30)]
    with pytest.raises(TrainingError, match="data set Dice: its classes are not known without reading each sample"):
        split(Dice(10), 0.5, 0, stratified=True)
    with pytest.raises(TrainingError, match="its targets are no class numbers"):
        split(ArrayDataset(torch.zeros(4, 1), torch.tensor([0.5, 1, 2, 3])), 0.5, 0, stratified=True)


def test_a_share_that_leaves_nothing_is_refused_in_one_line() -> None:
    with pytest.raises(TrainingError, match=r"data set Dice: a share of 0.01 of 10 samples leaves a part empty"):
        split(Dice(10), 0.01, 0)


def named(*classes: str) -> Arrays:
    return Arrays(torch.zeros(1, 1), torch.zeros(1, dtype=torch.int64), list(classes))


def test_sets_with_other_classes_are_told_apart() -> None:
    for theirs in (named("ants", "bees"), ArrayDataset(torch.zeros(1, 1), torch.zeros(1))):
        check_same_classes(named("ants", "bees"), theirs, "validation set")
    check_same_classes(named("0", "1", "2"), named("0", "1"), "validation set")
    with pytest.raises(TrainingError, match="validation set Arrays: its class 0 is bees, and ants in the training set"):
        check_same_classes(named("ants", "bees"), named("bees"), "validation set")
    with pytest.raises(TrainingError, match="its class 1 is missing, and bees in the training set"):
        check_same_classes(named("ants", "bees"), named("ants"), "validation set")
