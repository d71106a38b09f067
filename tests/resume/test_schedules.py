"""The learning rates that a run writes down are the published formulas', and torch's own schedulers'."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler as theirs

from tests.support.exact import fresh, make_config
from tests.support.training import train
from trainer.config.schema import Config

PEAK, EPOCHS, PER_EPOCH = 0.2, 6, 4
TOTAL = EPOCHS * PER_EPOCH


def config(schedule: dict[str, Any], **train_section: Any) -> Config:
    return make_config(
        1,
        model={"target": "mlp", "in_features": 64, "num_classes": 10, "hidden": 4},
        data={"train": {"target": "digits"}, "valid": {"target": "digits", "split": "valid"}, "batch_size": 300},
        optimizer={"target": "sgd", "lr": PEAK},
        schedule=schedule,
        train={"epochs": EPOCHS, "virtual_ranks": 1, "ema": None, "clip": {}, **train_section},
        log={"every_steps": 1, "fingerprint_every": 0},
    )


def rates(schedule: dict[str, Any], folder: str) -> list[float]:
    """The learning rate of each update, as the run wrote it down."""
    found = train(config(schedule), folder).of("train", "lr")
    assert len(found) == TOTAL
    return found


def torchs(make: Callable[[Any], Any], every: int = 1) -> list[float]:
    """The learning rates under one of torch's schedulers, moved on after `every` updates."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    scheduler = make(optimizer)
    found = []
    for step in range(TOTAL):
        found.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        if (step + 1) % every == 0 and step + 1 < TOTAL:
            scheduler.step()
    return found


OURS: dict[str, tuple[dict[str, Any], Callable[[Any], Any]]] = {
    "constant": ({}, lambda o: theirs.ConstantLR(o, factor=1.0)),
    "step": ({"every_epochs": 2, "gamma": 0.5}, lambda o: theirs.StepLR(o, 2 * PER_EPOCH, gamma=0.5)),
    "multistep": ({"epochs": [1, 4], "gamma": 0.3}, lambda o: theirs.MultiStepLR(o, [PER_EPOCH, 4 * PER_EPOCH], gamma=0.3)),
    "exponential": ({"gamma": 0.8}, lambda o: theirs.StepLR(o, PER_EPOCH, gamma=0.8)),
    "cosine": ({"final": 0.1}, lambda o: theirs.CosineAnnealingLR(o, TOTAL, eta_min=0.1 * PEAK)),
    "linear": ({"final": 0.25}, lambda o: theirs.LinearLR(o, 1.0, 0.25, TOTAL)),
    "polynomial": ({"power": 2.0}, lambda o: theirs.PolynomialLR(o, TOTAL, power=2.0)),
    "one_cycle": ({"pct_start": 0.4}, lambda o: theirs.OneCycleLR(o, PEAK, TOTAL, pct_start=0.4, cycle_momentum=False)),
}


@pytest.mark.parametrize("name", OURS)
def test_a_schedule_of_ours_gives_torchs_learning_rates(tmp_path: Path, name: str) -> None:
    arguments, make = OURS[name]
    found = rates({"target": name, **arguments}, fresh(tmp_path, "run"))
    assert found == pytest.approx(torchs(make), rel=1e-9, abs=1e-12)
    assert (len(set(found)) > 1) is (name != "constant")


FORMULAS: dict[str, tuple[dict[str, Any], Callable[[float], float]]] = {
    "cosine": ({}, lambda t: (1 + math.cos(math.pi * t)) / 2),  # Loshchilov and Hutter 2017, equation 5
    "linear": ({}, lambda t: 1 - t),
    "polynomial": ({"power": 0.9}, lambda t: (1 - t) ** 0.9),  # Chen et al. 2017, "poly"
    "constant": ({}, lambda t: 1.0),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_a_warm_up_is_linear_and_the_schedule_begins_after_it(tmp_path: Path, name: str) -> None:
    arguments, formula = FORMULAS[name]
    warm = 5  # an epoch and an update
    found = rates({"target": name, "warmup_epochs": 1, "warmup_steps": 1, **arguments}, fresh(tmp_path, "run"))
    up = [PEAK * (n + 1) / warm for n in range(warm)]  # Goyal et al. 2017, section 2.2
    down = [PEAK * formula((n - warm) / (TOTAL - warm)) for n in range(warm, TOTAL)]
    assert found == pytest.approx(up + down, rel=1e-9, abs=1e-12)


def test_one_of_torchs_schedulers_is_moved_once_an_epoch(tmp_path: Path) -> None:
    name = "torch.optim.lr_scheduler:CosineAnnealingWarmRestarts"
    found = rates({"target": name, "T_0": 2, "T_mult": 2}, fresh(tmp_path, "run"))
    assert found == pytest.approx(torchs(lambda o: theirs.CosineAnnealingWarmRestarts(o, 2, 2), every=PER_EPOCH), rel=1e-9)
    assert len(set(found)) > 3


@pytest.mark.parametrize("name", ["torch.optim.lr_scheduler:ExponentialLR", "exponential"])
def test_an_epochs_row_has_the_learning_rate_of_that_epoch(tmp_path: Path, name: str) -> None:
    run = train(config({"target": name, "gamma": 0.5}), fresh(tmp_path, "run"))
    assert run.of("epoch", "lr") == pytest.approx([PEAK * 0.5**epoch for epoch in range(EPOCHS)])
    assert run.of("epoch", "lr") == run.of("train", "lr")[PER_EPOCH - 1 :: PER_EPOCH]


@pytest.mark.parametrize("name", ["cosine", "plateau"])
def test_a_run_cut_short_may_end_in_its_warm_up(tmp_path: Path, name: str) -> None:
    short = train(config({"target": name, "warmup_steps": 2 * TOTAL}, max_steps=2), fresh(tmp_path, "short"))
    assert short.of("train", "lr") == pytest.approx([PEAK * n / (2 * TOTAL) for n in (1, 2)])


@pytest.mark.parametrize("monitor", ["loss", "accuracy"])
def test_a_plateau_lowers_the_rate_where_torchs_does(tmp_path: Path, monitor: str) -> None:
    arguments = {"factor": 0.5, "patience": 1, "threshold": 0.2}
    run = train(config({"target": "plateau", **arguments}, monitor=monitor, epochs=12), fresh(tmp_path, "run"))
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    scheduler = theirs.ReduceLROnPlateau(optimizer, mode="min" if monitor == "loss" else "max", **arguments)  # type: ignore[arg-type]
    expected = []
    for value in run.of("valid", monitor):
        expected += [float(optimizer.param_groups[0]["lr"])] * PER_EPOCH
        scheduler.step(value)
    assert run.of("train", "lr") == pytest.approx(expected, rel=1e-9)
    assert len(set(expected)) > 1, "it was never lowered"
    warm = train(
        config({"target": "plateau", "warmup_epochs": 1, "warmup_steps": 1, **arguments}, monitor=monitor), fresh(tmp_path, "warm")
    )
    first = warm.of("train", "lr")[:8]
    assert first == pytest.approx([PEAK * min(1, (n + 1) / 5) for n in range(8)], rel=1e-9)
