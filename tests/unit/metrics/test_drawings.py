"""The pictures of the first inputs are those that the first epoch trains on."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from trainer import build
from trainer.config.schema import Config
from trainer.data.pictures import as_picture
from trainer.distributed import World
from trainer.metrics.drawings import first_inputs, stretched

ALONE = World(0, 1, 0, 1, torch.device("cpu"))


def job(data: dict[str, Any], model: dict[str, Any]) -> build.Job:
    return build.build(
        Config.model_validate(
            {
                "seed": 3,
                "model": model,
                "data": data,
                "optimizer": {"target": "sgd", "lr": 0.1},
                "train": {"epochs": 1, "virtual_ranks": 1},
                "hardware": {"device": "cpu", "threads": 1},
            }
        ),
        ALONE,
    )


def test_the_first_inputs_are_the_first_batch_after_its_random_transforms() -> None:
    transforms = [{"target": "RandomHorizontalFlip"}, {"target": "Normalize", "mean": [0.3], "std": [2.0]}]
    data = {"train": {"target": "digits", "split": "train"}, "train_transforms": transforms, "batch_size": 12}
    made = job(data, {"target": "cnn", "in_channels": 1, "num_classes": 10})
    found = first_inputs(made, 12)
    ((inputs, targets),) = next(iter(made.loader.epoch(0, 0)))
    made.loader.close()
    assert [label for _, label in found] == [str(int(target)) for target in targets]
    for (picture, _), value in zip(found, inputs, strict=True):
        assert torch.equal(picture, stretched(value))


def test_each_channel_goes_from_0_to_1() -> None:
    value = torch.stack([torch.linspace(-2, 2, 12), torch.linspace(5, 6, 12), torch.linspace(0, 9, 12)]).reshape(3, 3, 4)
    picture = stretched(value)
    assert picture is not None
    assert picture.amin((1, 2)).tolist() == [0, 0, 0]
    assert picture.amax((1, 2)).tolist() == [1, 1, 1]
    assert stretched(value.numpy()) is not None
    flat = stretched(torch.full((3, 4, 4), 0.25))
    assert flat is not None
    assert flat.unique().tolist() == [0.25]


@pytest.mark.parametrize("value", [torch.zeros(5), torch.zeros(7, 4, 4), torch.zeros(3, 4, dtype=torch.int64), "text", torch.zeros(0)])
def test_what_is_no_picture_is_not_shown(value: Any) -> None:
    assert stretched(value) is None
    assert not isinstance(value, torch.Tensor) or not value.numel() or as_picture(value) is None


def test_inputs_that_are_no_pictures_are_said(caplog: pytest.LogCaptureFixture) -> None:
    made = job(
        {"train": {"target": "tests.unit.metrics.test_drawings:Numbers"}, "batch_size": 4},
        {"target": "mlp", "in_features": 5, "num_classes": 2},
    )
    assert first_inputs(made, 4) == []
    made.loader.close()
    assert "log.images: the training inputs are no pictures" in caplog.text


class Numbers:
    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.full((5,), float(index)), index % 2
