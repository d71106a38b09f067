"""Sums by virtual rank: a resume in the middle of an epoch and another number of workers take them up where they stood."""

from __future__ import annotations

import torch

from trainer.distributed import World
from trainer.metrics.meters import Meters

ALONE = World(0, 1, 0, 1, torch.device("cpu"))


def feed(meters: Meters, values: list[tuple[int, float, int, float]]) -> None:
    for place, loss, count, hits in values:
        meters.add(place, count, torch.tensor(loss), torch.tensor(hits))


def test_means_weigh_by_samples() -> None:
    meters = Meters(2, ALONE.device, "accuracy")
    feed(meters, [(0, 1.0, 6, 2), (1, 4.0, 3, 1)])
    assert meters.close_window(ALONE) == {"loss": 2.0, "accuracy": 3 / 9}
    feed(meters, [(0, 5.0, 9, 3)])
    assert meters.close_epoch(ALONE) == {"loss": 3.5, "accuracy": 6 / 18}
    assert meters.close_epoch(ALONE) == {}


def test_open_sums_go_through_a_checkpoint_to_other_workers() -> None:
    one = Meters(4, ALONE.device, "accuracy")
    feed(one, [(v, float(v), 3, 1) for v in range(4)])
    one.close_window(ALONE)
    feed(one, [(v, 10.0 * v, 3, 2) for v in range(4)])
    state = one.state(ALONE)
    assert state.shape == (4, 2, 4)
    halves = [Meters(2, ALONE.device, "accuracy") for _ in range(2)]
    for half, leaves in zip(halves, (range(0, 2), range(2, 4)), strict=True):
        half.load(state, leaves)
    assert torch.equal(torch.cat([half.state(ALONE) for half in halves]), state)


def test_sums_of_an_older_checkpoint_count_every_sample() -> None:
    one, other = (Meters(2, ALONE.device, "accuracy") for _ in range(2))
    feed(one, [(0, 1.0, 6, 2), (1, 4.0, 3, 1)])
    other.load(one.state(ALONE)[..., :3], range(2))
    other.quick_seen = True
    feed(other, [(0, 1.0, 1, 1)])
    assert other.close_epoch(ALONE) == {"loss": 1.9, "accuracy": 4 / 10}


def test_places_that_do_not_count_are_no_misses_and_are_left_out_with_their_update() -> None:
    meters = Meters(2, ALONE.device, "accuracy")
    for turn in range(2):
        for place, hits, places in ((0, 3.0, 4.0), (1, 0.0, 0.0)):
            meters.add(place, 5, torch.tensor(1.0), (torch.tensor(hits), torch.tensor(places)))
        if turn == 0:
            meters.mark()
    meters.roll_back()
    meters.add(1, 2, torch.tensor(8.0), torch.tensor(1.0))  # here each sample counts
    assert meters.close_epoch(ALONE) == {"loss": 26 / 12, "accuracy": 4 / 6}


def test_an_update_that_is_left_out_leaves_no_trace_in_the_sums() -> None:
    meters = Meters(1, ALONE.device, "accuracy")
    feed(meters, [(0, 1.0, 2, 1)])
    meters.mark()
    feed(meters, [(0, float("nan"), 2, 2)])
    meters.roll_back()
    assert meters.close_epoch(ALONE) == {"loss": 1.0, "accuracy": 0.5}


def test_a_task_that_counts_nothing_has_the_loss_only() -> None:
    meters = Meters(1, ALONE.device)
    meters.add(0, 2, torch.tensor(0.5), None)
    assert meters.close_epoch(ALONE) == {"loss": 0.5}
