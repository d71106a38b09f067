"""An evaluation sees every sample once and gives the same bits on any number of workers, whatever the task measures."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tests.support.exact import make_config
from tests.support.ranks import run_ranks
from trainer import build, distributed
from trainer.config.schema import Config
from trainer.evaluate import Measured, evaluate, try_some
from trainer.tasks.base import Sums, Task


class Histogram(Task):
    """Measures whole numbers of some shape and fractions of another, and shows what it was given."""

    def measure(self, output: Any, targets: Any) -> Sums:
        """Samples of each class, and the sum of the scores."""
        return {"samples": torch.bincount(targets, minlength=10), "scores": output.double().sum(0)}

    def metrics(self, sums: Sums, samples: int) -> dict[str, float]:
        """The first class's share, and its mean score."""
        return {"first": float(sums["samples"][0]) / samples, "score": float(sums["scores"][0]) / samples}

    def details(self, sums: Sums, samples: int) -> dict[str, Any]:
        """All of it."""
        return {"samples": sums["samples"].tolist(), "scores": sums["scores"].tolist()}


def config(batch: int, **more: Any) -> Config:
    data = {
        "train": {"target": "digits"},
        "valid": {"target": "digits", "split": "valid"},
        "batch_size": 48,
        "eval_batch_size": batch,
        "loader_workers": 0,
    }
    return make_config(6, model={"target": "cnn", "in_channels": 1, "num_classes": 10, "width": 4}, data=data, **more)


def measured(config: Config) -> Measured:
    """Evaluate the validation set in this rank."""
    world = distributed.join(config.hardware)
    torch.set_num_threads(1)
    job = build.build(config, world)
    like = try_some(job.state.model, job.task, job.valid, config, world)
    found = evaluate(job.state.model, job.task, job.valid, config, world, like)
    assert found is not None
    assert job.state.model.training
    return found


def at_once(config: Config) -> tuple[Any, Any]:
    """Scores and classes of the whole set in one forward pass."""
    world = distributed.join(config.hardware)
    torch.set_num_threads(1)
    job = build.build(config, world)
    with torch.no_grad():
        return job.state.model.eval()(job.valid.inputs).numpy(), job.valid.targets.numpy()


@pytest.mark.parametrize("batch", [7, 64, 200, 1000], ids="{} samples a batch".format)  # of 270: the last two leave ranks without any
@pytest.mark.parametrize("task", ["auto", "tests.unit.test_evaluate:Histogram"])
def test_any_number_of_workers_finds_the_same_bits(task: str, batch: int) -> None:
    wanted = config(batch, task={"target": task})
    alone = run_ranks(measured, 1, wanted)[0]
    for found in run_ranks(measured, 3, wanted):
        assert found == alone
    assert len(alone.details) == 2


def test_it_is_what_one_pass_over_the_whole_set_finds() -> None:
    found = run_ranks(measured, 2, config(64))[0]
    scores, targets = map(torch.from_numpy, run_ranks(at_once, 1, config(64))[0])
    assert found.metrics["loss"] == pytest.approx(float(nn.functional.cross_entropy(scores, targets)), rel=1e-5)
    assert found.metrics["accuracy"] == float((scores.argmax(1) == targets).double().mean())
    assert sum(map(sum, found.details["confusion"])) == 270
    assert [sum(row) for row in found.details["confusion"]] == torch.bincount(targets, minlength=10).tolist()


def test_a_task_of_ones_own_gets_the_sums_over_the_set() -> None:
    found = run_ranks(measured, 2, config(64, task={"target": "tests.unit.test_evaluate:Histogram"}))[0]
    scores, targets = map(torch.from_numpy, run_ranks(at_once, 1, config(64))[0])
    assert found.details["samples"] == torch.bincount(targets, minlength=10).tolist()
    assert found.details["scores"] == pytest.approx(scores.double().sum(0).tolist(), rel=1e-4)
    assert set(found.metrics) == {"loss", "first", "score"}
