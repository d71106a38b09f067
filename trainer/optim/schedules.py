"""Learning-rate schedules as pure functions of the step: nothing to save, nothing to restore.

Each returns the factor by which every parameter group's own learning rate is multiplied. All take the same three positional
arguments and their own options by keyword:

- ``step``: updates completed, so the factor is the one of update number ``step + 1``
- ``total_steps``: updates of the whole run
- ``steps_per_epoch``: updates of one epoch

``warmup_epochs`` and ``warmup_steps`` (added together, w updates) put a linear warm-up in front: update number n of the first w has
n/w of its factor. ``Plateau`` takes them too; ``one_cycle`` has its own way up instead. A schedule that runs to an end (cosine, linear,
polynomial) begins after the warm-up and still ends at ``total_steps``. Epochs named in a config (``every_epochs``, ``epochs``) count
from the run's start, warm-up included.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import Literal

from trainer.errors import ConfigError


def constant(step: int, total_steps: int, steps_per_epoch: int, *, warmup_epochs: float = 0.0, warmup_steps: int = 0) -> float:
    """The base learning rate throughout."""
    return _warm(step, _warmup(steps_per_epoch, warmup_epochs, warmup_steps), 1.0)


def step(
    step: int,
    total_steps: int,
    steps_per_epoch: int,
    *,
    every_epochs: int,
    gamma: float = 0.1,
    warmup_epochs: float = 0.0,
    warmup_steps: int = 0,
) -> float:
    """Multiply by ``gamma`` after every ``every_epochs`` epochs."""
    warmup = _warmup(steps_per_epoch, warmup_epochs, warmup_steps)
    _require(every_epochs >= 1, f"every_epochs must be at least 1, not {every_epochs}")
    _require(gamma > 0, f"gamma must be more than 0, not {gamma}")
    return _warm(step, warmup, gamma ** (step // steps_per_epoch // every_epochs))


def multistep(
    step: int,
    total_steps: int,
    steps_per_epoch: int,
    *,
    epochs: Sequence[int],
    gamma: float = 0.1,
    warmup_epochs: float = 0.0,
    warmup_steps: int = 0,
) -> float:
    """Multiply by ``gamma`` after each of the named ``epochs``."""
    warmup = _warmup(steps_per_epoch, warmup_epochs, warmup_steps)
    _require(gamma > 0, f"gamma must be more than 0, not {gamma}")
    _require(min(epochs, default=1) >= 1, f"epochs must be at least 1, not {min(epochs, default=1)}")
    return _warm(step, warmup, gamma ** bisect_right(sorted(epochs), step // steps_per_epoch))


def exponential(
    step: int, total_steps: int, steps_per_epoch: int, *, gamma: float, warmup_epochs: float = 0.0, warmup_steps: int = 0
) -> float:
    """Multiply by ``gamma`` after every epoch."""
    warmup = _warmup(steps_per_epoch, warmup_epochs, warmup_steps)
    _require(gamma > 0, f"gamma must be more than 0, not {gamma}")
    return _warm(step, warmup, gamma ** (step // steps_per_epoch))


def cosine(
    step: int,
    total_steps: int,
    steps_per_epoch: int,
    *,
    final: float = 0.0,
    warmup_epochs: float = 0.0,
    warmup_steps: int = 0,
) -> float:
    """Half a cosine wave from 1 down to ``final``, update by update."""
    warmup = _warmup(steps_per_epoch, warmup_epochs, warmup_steps)
    _require(final >= 0, f"final cannot be negative: {final}")
    return _warm(step, warmup, _cosine_between(1.0, final, _progress(step, total_steps, warmup)))


def polynomial(
    step: int,
    total_steps: int,
    steps_per_epoch: int,
    *,
    power: float = 1.0,
    final: float = 0.0,
    warmup_epochs: float = 0.0,
    warmup_steps: int = 0,
) -> float:
    """``final + (1 - final) * (1 - progress) ** power``."""
    warmup = _warmup(steps_per_epoch, warmup_epochs, warmup_steps)
    _require(final >= 0, f"final cannot be negative: {final}")
    _require(power > 0, f"power must be more than 0, not {power}")
    return _warm(step, warmup, final + (1.0 - final) * (1.0 - _progress(step, total_steps, warmup)) ** power)


def linear(
    step: int,
    total_steps: int,
    steps_per_epoch: int,
    *,
    final: float = 0.0,
    warmup_epochs: float = 0.0,
    warmup_steps: int = 0,
) -> float:
    """A straight line from 1 to ``final``."""
    warmup = _warmup(steps_per_epoch, warmup_epochs, warmup_steps)
    _require(final >= 0, f"final cannot be negative: {final}")
    return _warm(step, warmup, 1.0 + (final - 1.0) * _progress(step, total_steps, warmup))


def one_cycle(
    step: int,
    total_steps: int,
    steps_per_epoch: int,
    *,
    pct_start: float = 0.3,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
) -> float:
    """Up to the config's learning rate, the peak, and down again, both along half a cosine wave.

    The values of ``torch.optim.lr_scheduler.OneCycleLR``; momentum is not cycled. Its way up is its warm-up.

    Args:
        step: updates completed.
        total_steps: updates of the whole run.
        steps_per_epoch: updates of one epoch.
        pct_start: the share of the run that goes up.
        div_factor: the run starts at peak / div_factor,
        final_div_factor: and ends at peak / div_factor / final_div_factor.
    """
    _require(0.0 <= pct_start <= 1.0, f"pct_start is a share of the run, 0 to 1, not {pct_start}")
    _require(div_factor > 0, f"div_factor must be more than 0, not {div_factor}")
    _require(final_div_factor > 0, f"final_div_factor must be more than 0, not {final_div_factor}")
    start = 1.0 / div_factor
    peak = pct_start * total_steps - 1.0
    last = total_steps - 1.0
    if step <= peak:
        return _cosine_between(start, 1.0, step / peak if peak > 0 else 1.0)
    return _cosine_between(1.0, start / final_div_factor, min(1.0, (step - peak) / (last - peak)) if last > peak else 1.0)


class Plateau:
    """Lower the learning rate when the watched metric stops improving.

    The one schedule that depends on what training yields, and so the one that a checkpoint must hold.

    Args:
        factor: what the learning rate is multiplied by, each time.
        patience: evaluations without improvement that are let pass.
        threshold: the relative change that counts as an improvement.
        min_factor: never go below this share of the base learning rate.
        mode: whether less ("min") or more ("max") of the metric is better; "auto" takes the direction of ``train.monitor``.
        warmup_epochs: a linear warm-up in front, as of the other schedules; the metric is watched meanwhile.
        warmup_steps: the same in updates; the two are added.
    """

    def __init__(
        self,
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        min_factor: float = 0.0,
        mode: Literal["auto", "min", "max"] = "auto",
        warmup_epochs: float = 0.0,
        warmup_steps: int = 0,
    ) -> None:
        _require(0.0 < factor < 1.0, f"factor must lie between 0 and 1, not {factor}")
        _require(patience >= 0, f"patience cannot be negative: {patience}")
        _require(threshold >= 0, f"threshold cannot be negative: {threshold}")
        _require(0.0 <= min_factor < 1.0, f"min_factor is a share below 1 of the base learning rate, not {min_factor}")
        _require(mode in ("auto", "min", "max"), f"mode must be auto, min or max, not {mode!r}")
        self.reduce_by = factor
        self.patience = patience
        self.threshold = threshold
        self.min_factor = min_factor
        self.mode = mode
        _warmup(1, warmup_epochs, warmup_steps)
        self.warmup_epochs, self.warmup_steps = warmup_epochs, warmup_steps
        self.factor = 1.0
        self.best: float | None = None
        self.bad_evaluations = 0

    def observe(self, metric: float, less_is_better: bool) -> None:
        """Take in one evaluation's metric; ``factor`` is what applies from here on.

        Args:
            metric: the watched metric's value.
            less_is_better: its direction, for mode "auto"; the other modes have their own.
        """
        if self._improves(metric, less_is_better if self.mode == "auto" else self.mode == "min"):
            self.best, self.bad_evaluations = metric, 0
            return
        self.bad_evaluations += 1
        if self.bad_evaluations > self.patience:
            self.factor = max(self.factor * self.reduce_by, self.min_factor)
            self.bad_evaluations = 0

    def at(self, step: int, steps_per_epoch: int) -> float:
        """The factor of update number ``step + 1``, warm-up included."""
        return _warm(step, _warmup(steps_per_epoch, self.warmup_epochs, self.warmup_steps), self.factor)

    def state_dict(self) -> dict[str, float | int | None]:
        """What a resume needs, in plain types."""
        return {"factor": self.factor, "best": self.best, "bad_evaluations": self.bad_evaluations}

    def load_state_dict(self, state: dict[str, float | int | None]) -> None:
        """Go on from a ``state_dict``."""
        factor, best, bad = state["factor"], state["best"], state["bad_evaluations"]
        if factor is None or bad is None:
            raise ValueError(f"not a state of Plateau: {state}")
        self.factor, self.best, self.bad_evaluations = float(factor), best, int(bad)

    def _improves(self, metric: float, less: bool) -> bool:
        if self.best is None:
            return not math.isnan(metric)
        margin = self.threshold * abs(self.best)
        # A comparison with NaN is false, so that a NaN counts as no improvement.
        return metric < self.best - margin if less else metric > self.best + margin


def _warmup(steps_per_epoch: int, epochs: float, steps: int) -> int:
    _require(epochs >= 0 and steps >= 0, f"warm-up cannot be negative: {epochs} epochs, {steps} steps")
    return round(epochs * steps_per_epoch) + steps


def _warm(step: int, warmup: int, factor: float) -> float:
    return factor * min(1.0, (step + 1) / warmup) if step < warmup else factor


def _progress(step: int, total_steps: int, warmup: int) -> float:
    """How much of the part after the warm-up is done, 0 to 1."""
    return min(1.0, max(0, step - warmup) / max(1, total_steps - warmup))


def _cosine_between(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1.0 + math.cos(math.pi * progress)) / 2.0


def _require(fine: bool, otherwise: str) -> None:
    if not fine:
        raise ConfigError(f"schedule: {otherwise}")
