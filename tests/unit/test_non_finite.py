import math

import pytest
import torch

from trainer.data.order import BatchPlan
from trainer.errors import NonFiniteError
from trainer.non_finite import Losses, bad_loss, check_scale, where


def on_device(leaves: int) -> Losses:
    """As on a GPU, where a loss is not looked at in its step."""
    losses = Losses(leaves, torch.device("cpu"))
    losses.device = torch.device("cuda")
    return losses


def step(losses: Losses, number: int, *values: float) -> None:
    for place, value in enumerate(values):
        losses.add(place, torch.tensor(value))
    losses.end_step(number)


def test_on_the_cpu_a_bad_loss_is_found_in_its_step():
    losses = Losses(3, torch.device("cpu"))
    step(losses, 4, 0.1, 0.2, 0.3)
    assert losses.found(4, ask=False) is None
    step(losses, 5, 0.1, math.nan, math.inf)
    assert losses.found(5, ask=False) == (5, [1, 2])
    assert losses.bad_now() == [1, 2]
    step(losses, 6, 0.1, 0.2, 0.3)
    assert losses.found(6, ask=True) is None


def test_on_a_gpu_the_first_bad_step_is_remembered_until_somebody_asks():
    losses = on_device(2)
    step(losses, 0, 0.1, 0.2)
    step(losses, 1, 0.1, math.nan)
    step(losses, 2, math.nan, math.nan)
    assert losses.found(2, ask=False) is None
    assert losses.found(2, ask=True) == (1, [1])
    assert losses.bad_now() == [0, 1]


def test_the_error_names_step_rank_and_samples():
    plan = BatchPlan(n=40, batch_size=8, virtual_ranks=4, seed=1, drop_last=True)
    text = str(bad_loss(plan, 11, 2, 1, 1, [2]))
    samples = ", ".join(map(str, plan.micro_batch(2, 1, 2).tolist()))
    assert text.startswith("step 12: the training loss on rank 1 is not finite")
    assert f"virtual rank 2, samples {samples}" in text
    assert "train.clip.norm" in text
    assert "\n" not in text


def test_long_lists_are_cut():
    plan = BatchPlan(n=400, batch_size=80, virtual_ranks=4, seed=1, drop_last=True)
    text = where(plan, 0, 0, [0, 1, 2, 3])
    assert "and 12 more" in text
    assert "2 more virtual ranks" in text


def test_a_loss_scale_below_its_floor_ends_the_run():
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**-11)
    scaler.scale(torch.ones(()))  # its scale is made at the first use
    with pytest.raises(NonFiniteError, match="bf16"):
        check_scale(scaler, 7)
    check_scale(torch.amp.GradScaler("cpu", init_scale=2.0), 7)
    check_scale(None, 7)
