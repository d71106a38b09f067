"""A schedule's value at every step is torch's, where torch has one."""

import json
import math
from collections.abc import Callable

import pytest
import torch
from torch.optim import lr_scheduler

from trainer.errors import ConfigError
from trainer.optim import schedules
from trainer.optim.learning_rate import PlateauLearningRate

EPOCHS, PER_EPOCH = 12, 7
TOTAL = EPOCHS * PER_EPOCH


def torch_values(make: Callable[[torch.optim.Optimizer], lr_scheduler.LRScheduler], steps: int = TOTAL, each: int = 1) -> list[float]:
    """The learning rate of every update, with base 1; the scheduler advances after every ``each`` updates."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimizer)
    values = []
    for step in range(steps):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if (step + 1) % each == 0 and step + 1 < steps:
            scheduler.step()
    return values


def our_values(schedule: Callable[..., float], total: int = TOTAL, **arguments: object) -> list[float]:
    return [schedule(step, total, PER_EPOCH, **arguments) for step in range(total)]


@pytest.mark.parametrize(
    ("ours", "theirs", "each"),
    [
        (our_values(schedules.constant), lambda o: lr_scheduler.ConstantLR(o, factor=1.0), 1),
        (our_values(schedules.step, every_epochs=3, gamma=0.3), lambda o: lr_scheduler.StepLR(o, 3, gamma=0.3), PER_EPOCH),
        (our_values(schedules.multistep, epochs=[8, 2, 9]), lambda o: lr_scheduler.MultiStepLR(o, [8, 2, 9]), PER_EPOCH),
        (our_values(schedules.exponential, gamma=0.8), lambda o: lr_scheduler.ExponentialLR(o, 0.8), PER_EPOCH),
        (our_values(schedules.cosine), lambda o: lr_scheduler.CosineAnnealingLR(o, TOTAL), 1),
        (our_values(schedules.cosine, final=0.1), lambda o: lr_scheduler.CosineAnnealingLR(o, TOTAL, eta_min=0.1), 1),
        (our_values(schedules.polynomial, power=0.9), lambda o: lr_scheduler.PolynomialLR(o, TOTAL, power=0.9), 1),
        (our_values(schedules.linear, final=0.05), lambda o: lr_scheduler.LinearLR(o, 1.0, 0.05, TOTAL), 1),
        (our_values(schedules.one_cycle), lambda o: lr_scheduler.OneCycleLR(o, 1.0, TOTAL, cycle_momentum=False), 1),
        (
            our_values(schedules.one_cycle, pct_start=0.123, div_factor=7.0, final_div_factor=50.0),
            lambda o: lr_scheduler.OneCycleLR(o, 1.0, TOTAL, pct_start=0.123, div_factor=7.0, final_div_factor=50.0, cycle_momentum=False),
            1,
        ),
        (
            our_values(schedules.one_cycle, pct_start=0.0),
            lambda o: lr_scheduler.OneCycleLR(o, 1.0, TOTAL, pct_start=0.0, cycle_momentum=False),
            1,
        ),
        (
            our_values(schedules.one_cycle, pct_start=1.0),
            lambda o: lr_scheduler.OneCycleLR(o, 1.0, TOTAL, pct_start=1.0, cycle_momentum=False),
            1,
        ),
    ],
)
def test_every_value_is_torchs(ours: list[float], theirs: Callable[..., lr_scheduler.LRScheduler], each: int) -> None:
    assert ours == pytest.approx(torch_values(theirs, each=each), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("warmup", [2, 10])
def test_warm_up_then_cosine_is_torchs_linear_then_cosine(warmup: int) -> None:
    def sequence(optimizer: torch.optim.Optimizer) -> lr_scheduler.LRScheduler:
        up = lr_scheduler.LinearLR(optimizer, 1 / warmup, 1.0, warmup - 1)
        down = lr_scheduler.CosineAnnealingLR(optimizer, TOTAL - warmup)
        return lr_scheduler.SequentialLR(optimizer, [up, down], [warmup])

    assert our_values(schedules.cosine, warmup_steps=warmup) == pytest.approx(torch_values(sequence), rel=1e-9)


@pytest.mark.parametrize(
    "schedule", [schedules.constant, schedules.cosine, schedules.linear, schedules.polynomial], ids=lambda f: f.__name__
)
def test_a_warm_up_climbs_in_equal_steps_to_the_base_learning_rate(schedule: Callable[..., float]) -> None:
    values = our_values(schedule, warmup_epochs=1, warmup_steps=1)
    assert values[:8] == pytest.approx([n / 8 for n in range(1, 9)])
    assert values[8] == 1.0


def test_a_warm_up_longer_than_the_run_only_climbs() -> None:
    values = our_values(schedules.cosine, warmup_steps=2 * TOTAL)
    assert values == pytest.approx([n / (2 * TOTAL) for n in range(1, TOTAL + 1)])


def test_a_warm_up_does_not_move_the_epochs_at_which_the_rate_drops() -> None:
    values = our_values(schedules.multistep, epochs=[3], warmup_epochs=1)
    assert values[3 * PER_EPOCH - 1] == 1.0
    assert values[3 * PER_EPOCH] == pytest.approx(0.1)


@pytest.mark.parametrize("total", [1, 2, 3])
@pytest.mark.parametrize(
    "schedule", [schedules.cosine, schedules.linear, schedules.polynomial, schedules.one_cycle], ids=lambda f: f.__name__
)
def test_the_shortest_runs_have_finite_factors(schedule: Callable[..., float], total: int) -> None:
    assert all(0 <= value <= 1 for value in our_values(schedule, total=total))


@pytest.mark.parametrize(
    ("schedule", "arguments", "said"),
    [
        (schedules.step, {"every_epochs": 0}, "every_epochs must be at least 1"),
        (schedules.cosine, {"warmup_steps": -1}, "cannot be negative"),
        (schedules.one_cycle, {"pct_start": 30}, "share of the run"),
    ],
)
def test_an_impossible_option_is_named(schedule: Callable[..., float], arguments: dict[str, int], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        schedule(0, TOTAL, PER_EPOCH, **arguments)


NOISY = [5.0, 4.0, 4.1, 3.99999, 4.2, 3.0, 3.1, 3.2, math.nan, 2.0, 2.5, 2.5, 2.5, 2.5, 2.5, 2.5, 2.5, 2.5]


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("patience", [0, 1, 3])
def test_plateau_lowers_the_rate_where_torchs_does(mode: str, patience: int) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = lr_scheduler.ReduceLROnPlateau(optimizer, mode=mode, factor=0.5, patience=patience, min_lr=0.1)
    ours = schedules.Plateau(factor=0.5, patience=patience, min_factor=0.1, mode=mode)
    for metric in NOISY:
        theirs.step(metric)
        ours.observe(metric, less_is_better=mode == "max")  # a mode of its own stands above the metric's direction
        assert ours.factor == pytest.approx(optimizer.param_groups[0]["lr"])
    assert ours.factor < 1.0


def test_plateau_goes_on_from_its_state_as_if_never_stopped() -> None:
    whole, first, second = (schedules.Plateau(factor=0.5, patience=1) for _ in range(3))
    for metric in NOISY:
        whole.observe(metric, True)
    for metric in NOISY[:8]:
        first.observe(metric, True)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for metric in NOISY[8:]:
        second.observe(metric, True)
    assert second.state_dict() == whole.state_dict()


def test_a_slightly_worse_negative_metric_is_no_improvement() -> None:
    plateau = schedules.Plateau(patience=0, threshold=0.1)
    plateau.observe(-10.0, True)
    plateau.observe(-9.5, True)
    assert plateau.factor == 0.1


@pytest.mark.parametrize(("less_is_better", "lowered"), [(False, False), (True, True)])
def test_a_rising_accuracy_keeps_the_rate_and_a_rising_loss_lowers_it(less_is_better: bool, lowered: bool) -> None:
    optimizer = torch.optim.SGD([{"params": [torch.nn.Parameter(torch.zeros(1))], "initial_lr": 1.0}], lr=1.0)
    rate = PlateauLearningRate(optimizer, schedules.Plateau(patience=1, factor=0.5))
    for metric in (0.5, None, 0.6, 0.7, 0.8):
        rate.end_epoch(metric, less_is_better)
    rate.apply(0)
    assert (optimizer.param_groups[0]["lr"] < 1.0) is lowered


def test_a_mode_that_plateau_does_not_have_is_named() -> None:
    with pytest.raises(ConfigError, match="mode must be auto, min or max, not 'least'"):
        schedules.Plateau(mode="least")  # type: ignore[arg-type]
