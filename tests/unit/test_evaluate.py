"""An evaluation sees every sample once and gives the same bits on any number of workers, whatever the task measures."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tests.support.exact import make_config
from tests.support.ranks import RankFailed, run_ranks
from trainer import build, distributed, loop
from trainer.config.schema import Config
from trainer.data.arrays import Arrays
from trainer.data.datasets import Digits
from trainer.distributed import World
from trainer.errors import TrainingError
from trainer.evaluate import Measured, evaluate, try_some
from trainer.tasks.base import Sums, Task
from trainer.tasks.classification import Classification


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
    first, *others = run_ranks(measured, 3, wanted)
    assert first == alone
    assert others == [Measured(alone.metrics, samples=alone.samples)] * 2  # what is more than a number is for the one that writes
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


def test_class_weights_of_a_wrong_number_are_said_before_the_first_step() -> None:
    with pytest.raises(RankFailed, match=r"loss\.weight has length 3, and the model's output 10 classes; give one number for each"):
        run_ranks(measured, 1, config(64, loss={"target": "cross_entropy", "weight": [1.0, 2.0, 3.0]}))


WEIGHTS = [float(n * n) for n in range(1, 11)]


@pytest.mark.parametrize("batch", [7, 64, 270], ids="{} samples a batch".format)
@pytest.mark.parametrize("options", [{"weight": WEIGHTS}, {"ignore_index": 3}], ids=["class weights", "an ignored class"])
def test_the_loss_is_that_of_the_whole_set_whatever_a_batch_weighs(options: dict[str, Any], batch: int) -> None:
    wanted = config(batch, loss={"target": "cross_entropy", **options})
    found = run_ranks(measured, 2, wanted)
    assert found[0].metrics == found[1].metrics == run_ranks(measured, 1, wanted)[0].metrics
    scores, targets = map(torch.from_numpy, run_ranks(at_once, 1, wanted)[0])
    loss = nn.CrossEntropyLoss(**{**options, **({"weight": torch.tensor(WEIGHTS)} if "weight" in options else {})})
    assert found[0].metrics["loss"] == pytest.approx(float(loss(scores, targets)), rel=1e-6)
    by_samples = sum(float(loss(s, t)) * len(t) for s, t in zip(scores.split(7), targets.split(7), strict=True)) / len(targets)
    assert by_samples != pytest.approx(float(loss(scores, targets)), rel=1e-5), "the example tells nothing"
    counted = targets != options.get("ignore_index")
    assert found[0].metrics["accuracy"] == float((scores.argmax(1) == targets)[counted].double().mean())


class Torn:
    """Digits, the first of which cannot be read."""

    def __init__(self, torn: int = 11) -> None:
        self.digits, self.torn = Digits("valid"), torn
        self.classes = self.digits.classes

    def __len__(self) -> int:
        return 30

    def __getitem__(self, index: int) -> Any:
        if index < self.torn:
            raise OSError("image file is truncated")
        return self.digits.inputs[index], self.digits.targets[index]


def tried_out(config: Config) -> dict[str, Any]:
    """Try the sets out as a run does, and evaluate."""
    world = distributed.join(config.hardware)
    job = build.build(config, world)
    loop.try_out(job)
    found = evaluate(job.state.model, job.task, job.valid, config, world, job.like["valid"], bad=job.bad)
    assert found is not None
    return {**found.metrics, "details": set(found.details)}


def torn_by(count: int, **sections: Any) -> Config:
    found = config(8, **sections)
    data = {**found.data.model_dump(exclude_none=True), "valid": {"target": "tests.unit.test_evaluate:Torn", "torn": count}}
    data |= {"bad_samples": "skip", "max_bad_samples": 100}
    return Config.model_validate({**found.model_dump(exclude_none=True), "data": data})


def test_a_set_whose_first_samples_cannot_be_read_has_all_metrics() -> None:
    found = run_ranks(tried_out, 1, torn_by(11, train={"monitor": "f1"}))[0]
    assert set(found) == {"loss", "accuracy", "top5_accuracy", "f1", "details"}
    assert found["details"] == {"confusion", "per_class"}


def test_a_set_of_which_nothing_can_be_read_is_refused_in_one_line() -> None:
    with pytest.raises(RankFailed, match=r"TrainingError: data set Torn: not one of its samples can be read"):
        run_ranks(tried_out, 1, torn_by(30))


class Same:
    """Numbers to be predicted, the first of which are all alike."""

    def __len__(self) -> int:
        return 60

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.full((3,), index / 60.0), torch.full((1,), max(0.0, index - 20.0))


def test_a_metric_that_the_first_samples_cannot_tell_can_be_watched() -> None:
    same = {"target": "tests.unit.test_evaluate:Same"}
    data = {"train": same, "valid": same, "batch_size": 12, "eval_batch_size": 8}
    model = {"target": "mlp", "in_features": 3, "num_classes": 1, "hidden": 2}
    wanted = make_config(6, model=model, data=data, loss={"target": "mse"}, train={"monitor": "r2"})
    found = run_ranks(tried_out, 1, wanted)[0]
    assert set(found) == {"loss", "mae", "rmse", "r2", "details"}


class Errors(Task):
    """A metric of one's own, of which it is not said whether more or less of it is better."""

    def metrics(self, sums: Sums, samples: int) -> dict[str, float]:
        """An error."""
        return {"wape": 0.5}


class Told(Errors):
    """Here it is said."""

    lower_is_better = ("wape",)


def watching(task: str, **train: Any) -> Config:
    return config(8, task={"target": f"tests.unit.test_evaluate:{task}"}, train={"monitor": "wape", **train})


def test_a_metric_without_a_direction_is_not_watched() -> None:
    with pytest.raises(RankFailed, match=r"ConfigError: train\.monitor: task Errors does not say whether less or more of 'wape' is better"):
        run_ranks(tried_out, 1, watching("Errors"))
    for fine in (watching("Told"), watching("Errors", monitor_mode="min")):
        assert run_ranks(tried_out, 1, fine)[0]["wape"] == 0.5


class Twice(Classification):
    """A model with two inputs."""

    def run(self, model: Any, inputs: Any, targets: Any) -> tuple[Any, torch.Tensor]:
        output = model(inputs, self)
        return output, self.loss(output, targets)


class Second(nn.Sequential):
    """Needs a second input."""

    def forward(self, images: Any, second: Any) -> Any:  # type: ignore[override]
        assert isinstance(second, Twice)
        return super().forward(images)


@pytest.mark.parametrize("bad_label", [None, 10])
def test_a_model_that_the_task_calls_otherwise_is_tried_as_the_task_calls_it(bad_label: int | None) -> None:
    labels = torch.arange(20) % 10
    labels[15] = labels[15] if bad_label is None else bad_label
    dataset: Any = Arrays(torch.rand(20, 1, 8, 8), labels)
    model, task = Second(nn.Flatten(), nn.Linear(64, 10)), Twice(nn.CrossEntropyLoss())
    world = World(0, 1, 0, 1, torch.device("cpu"))
    if bad_label is None:
        assert set(try_some(model, task, dataset, config(8), world)) == {"confusion", "top"}
    else:
        with pytest.raises(TrainingError, match=r"sample 15 has label 10; the model has 10 classes"):
            try_some(model, task, dataset, config(8), world)
    assert not task.loss._forward_pre_hooks
