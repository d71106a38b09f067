"""The order of samples, for any size, batch, number of virtual ranks and workers, and any interruptions."""

from __future__ import annotations

import itertools
import math
import tracemalloc
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, DistributedSampler

from trainer.data.order import BLOCK, BatchPlan, EpochOrder, KeyedSampler, permute
from trainer.errors import TrainingError

SEEDS = st.integers(0, 2**63 - 1)
EPOCHS = st.integers(0, 10_000)


@st.composite
def plans(draw: st.DrawFn) -> tuple[BatchPlan, int]:
    """A plan, and a number of workers that divides its virtual ranks."""
    ranks = draw(st.integers(1, 12))
    batch = ranks * draw(st.integers(1, 9))
    n = draw(st.integers(batch, batch * 7))
    plan = BatchPlan(n, batch, ranks, draw(SEEDS), drop_last=draw(st.booleans()), shuffle=draw(st.booleans()))
    return plan, draw(st.sampled_from([w for w in range(1, ranks + 1) if ranks % w == 0]))


@given(n=st.integers(1, 5000), seed=SEEDS, epoch=EPOCHS)
def test_an_epoch_has_every_sample_exactly_once(n: int, seed: int, epoch: int) -> None:
    assert sorted(permute(np.arange(n), n, seed, epoch).tolist()) == list(range(n))


def test_an_epoch_of_several_blocks_has_every_sample_exactly_once() -> None:
    n = 3 * BLOCK + 5
    assert np.array_equal(np.sort(EpochOrder(n, 1, 2).slice(0, n)), np.arange(n))


@given(n=st.sampled_from([1, 2, 1797, BLOCK, BLOCK + 1, 2 * BLOCK + 9, 10**9, 2**40, 2**62]), seed=SEEDS, data=st.data())
def test_a_slice_is_what_reading_index_by_index_gives(n: int, seed: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(max(0, min(n, 2 * BLOCK) - 40), n - 1) | st.integers(0, n - 1))
    stop = min(n, start + data.draw(st.integers(0, 50)))
    sliced = EpochOrder(n, seed, 3).slice(start, stop).tolist()
    assert sliced == [permute(np.array([i]), n, seed, 3).item() for i in range(start, stop)]
    assert all(0 <= sample < n for sample in sliced)
    assert len(set(sliced)) == len(sliced)


def test_a_slice_across_two_blocks_is_both_their_parts() -> None:
    n = 4 * BLOCK
    order = EpochOrder(n, 5, 0)
    assert np.array_equal(order.slice(BLOCK - 7, BLOCK + 9), order.slice(0, n)[BLOCK - 7 : BLOCK + 9])


def test_what_a_caller_writes_into_a_slice_changes_no_later_slice() -> None:
    order = EpochOrder(100, 0, 0)
    before = order.slice(0, 10)
    order.slice(0, 10)[:] = -1
    assert np.array_equal(order.slice(0, 10), before)


@given(planned=plans(), epoch=EPOCHS, data=st.data())
def test_the_workers_read_every_sample_exactly_once_through_any_resumes(
    planned: tuple[BatchPlan, int], epoch: int, data: st.DataObject
) -> None:
    plan, _ = planned
    workers = [w for w in range(1, plan.virtual_ranks + 1) if plan.virtual_ranks % w == 0]
    cuts = sorted(data.draw(st.sets(st.integers(1, plan.steps_per_epoch), max_size=3)) | {0, plan.steps_per_epoch})
    seen: list[int] = []
    for start, stop in itertools.pairwise(cuts):
        size = data.draw(st.sampled_from(workers))  # each resume may have another number of workers
        for step in range(start, stop):
            for rank in range(size):
                for v in plan.ranks_of(rank, size):
                    seen.extend(plan.micro_batch(epoch, step, v).tolist())
    rest = plan.n % plan.batch_size
    dropped = rest if plan.drop_last or rest < plan.virtual_ranks else 0
    assert len(seen) == len(set(seen)) == plan.n - dropped
    assert seen == EpochOrder(plan.n, plan.seed, epoch, plan.shuffle).slice(0, plan.n - dropped).tolist()


@given(planned=plans(), epoch=EPOCHS)
def test_a_batch_is_its_micro_batches_and_they_are_as_even_as_can_be(planned: tuple[BatchPlan, int], epoch: int) -> None:
    plan, _ = planned
    for step in range(plan.steps_per_epoch):
        parts = [plan.micro_batch(epoch, step, v) for v in range(plan.virtual_ranks)]
        assert np.array_equal(np.concatenate(parts), plan.batch(epoch, step))
        sizes = [len(part) for part in parts]
        assert sizes == sorted(sizes, reverse=True)
        assert sizes[0] - sizes[-1] <= 1
        assert sizes[-1] >= 1


@given(planned=plans(), epoch=EPOCHS, data=st.data())
def test_the_sampler_gives_the_plans_samples_from_any_step(planned: tuple[BatchPlan, int], epoch: int, data: st.DataObject) -> None:
    plan, size = planned
    start = data.draw(st.integers(0, plan.steps_per_epoch))
    for rank in range(size):
        sampler = KeyedSampler(range(plan.n), plan, num_replicas=size, rank=rank)
        sampler.set_epoch(epoch, start)
        expected = [
            sample
            for step in range(start, plan.steps_per_epoch)
            for v in plan.ranks_of(rank, size)
            for sample in plan.micro_batch(epoch, step, v).tolist()
        ]
        assert list(sampler) == expected
        assert len(sampler) == len(expected)


def test_the_sampler_is_a_distributed_sampler_at_home_in_any_data_loader() -> None:
    sampler = KeyedSampler(range(40), BatchPlan(40, 8, 4, seed=1), num_replicas=2, rank=1)
    sampler.set_epoch(2, start_step=1)
    assert isinstance(sampler, DistributedSampler)
    batches = [batch.tolist() for batch in DataLoader(list(range(40)), batch_size=4, sampler=sampler)]
    plan = sampler.plan
    assert batches == [[*plan.micro_batch(2, step, 2).tolist(), *plan.micro_batch(2, step, 3).tolist()] for step in range(1, 5)]


def test_a_slice_of_a_thousand_million_samples_needs_little_memory_and_no_walk() -> None:
    order = EpochOrder(10**9, 0, 0)
    order.slice(0, 1)
    tracemalloc.start()
    try:
        order.slice(987_654_321, 987_654_321 + 256)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000  # bytes; the whole order would be 8,000,000,000


def test_epochs_and_seeds_differ() -> None:
    orders = [tuple(permute(np.arange(200), 200, seed, epoch).tolist()) for seed in range(10) for epoch in range(10)]
    assert len(set(orders)) == 100


def test_without_shuffling_the_order_is_by_number() -> None:
    assert EpochOrder(10, 0, 5, shuffle=False).slice(3, 7).tolist() == [3, 4, 5, 6]


@pytest.mark.parametrize("n", [3, 4, 5, 6])
def test_all_orders_of_a_few_samples_are_equally_likely(n: int) -> None:
    kinds = math.factorial(n)
    trials = max(3000, 12 * kinds)
    counts = Counter(tuple(permute(np.arange(n), n, 7, epoch).tolist()) for epoch in range(trials))
    expected = trials / kinds
    chi2 = sum((counts[order] - expected) ** 2 / expected for order in itertools.permutations(range(n)))
    assert chi2 < kinds - 1 + 5 * math.sqrt(2 * (kinds - 1))  # five standard deviations; the keys are fixed, so never by chance


def test_where_a_sample_comes_does_not_depend_on_its_number() -> None:
    n, epochs = 1797, 300
    orders = np.stack([permute(np.arange(n), n, 0, epoch) for epoch in range(epochs)]).astype(float)
    mean_error = (orders.mean(axis=0) - (n - 1) / 2) / (n / math.sqrt(12 * epochs))
    assert abs(mean_error.std() - 1) < 0.1  # as for fair draws, and at no position far off
    assert np.abs(mean_error).max() < 5
    neighbours = [np.corrcoef(order[:-1], order[1:])[0, 1] for order in orders]
    assert abs(np.mean(neighbours)) < 5 / math.sqrt(n * epochs)


def test_a_batch_that_does_not_divide_is_refused_with_sizes_that_do() -> None:
    with pytest.raises(TrainingError, match="batch_size 100 does not divide over 8 virtual ranks; use 96 or 104"):
        BatchPlan(1000, 100, 8, seed=0)


def test_a_set_smaller_than_one_batch_is_refused_with_what_to_do() -> None:
    with pytest.raises(TrainingError, match=r"smaller data.batch_size, or data.drop_last: false"):
        BatchPlan(20, 32, 4, seed=0)
    assert BatchPlan(20, 32, 4, seed=0, drop_last=False).steps_per_epoch == 1
    with pytest.raises(TrainingError, match="one for each of 4 virtual ranks"):
        BatchPlan(3, 32, 4, seed=0, drop_last=False)


def test_workers_that_cannot_share_the_virtual_ranks_are_refused() -> None:
    with pytest.raises(TrainingError, match="3 workers cannot share 8 virtual ranks"):
        BatchPlan(100, 8, 8, seed=0).ranks_of(0, 3)


def test_positions_outside_the_epoch_are_refused() -> None:
    plan = BatchPlan(100, 8, 8, seed=0)
    with pytest.raises(IndexError, match="step 12 of an epoch of 12 steps"):
        plan.micro_batch(0, 12, 0)
    with pytest.raises(IndexError):
        EpochOrder(10, 0, 0).slice(5, 11)


def test_a_plan_for_another_set_is_refused() -> None:
    with pytest.raises(TrainingError, match="the plan is for 100 samples, the data set has 99"):
        KeyedSampler(range(99), BatchPlan(100, 10, 1, seed=0), num_replicas=1, rank=0)
