from __future__ import annotations

from tests.support.jobs import DIGITS
from trainer.config.checks import idle
from trainer.config.load import load

SCHEDULE = "schedule={target: multistep, epochs: [1, 2], warmup_epochs: 5}"


def test_what_a_run_is_too_short_for_is_said_and_not_refused() -> None:
    short = load(DIGITS, ["train.epochs=2", "freeze=[{match: '*', but: head, until_epoch: 2}]", SCHEDULE]).config
    assert list(idle(short)) == [
        "freeze.0.until_epoch: there is no epoch 2: counted from 0, the last one is 1; it stays frozen",
        "schedule.warmup_epochs: the warm-up takes 5 epochs, and the whole run has 2",
        "schedule.epochs.1: there is no epoch 2: counted from 0, the last one is 1",
    ]
    assert list(idle(load(DIGITS, ["train.epochs=9", SCHEDULE]).config)) == []
