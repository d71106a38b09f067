"""The ready sets stand for the list of transforms that their names promise."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch

from tests.unit.data.picture_sets import Pictures
from trainer.data.sets import CifarEval, CifarTrain, ImagenetEval, ImagenetTrain, MnistEval, MnistTrain
from trainer.data.transforms import Cutout, ToTensor, TransformList, torchvision_v2

v2: Any = torchvision_v2()
CIFAR = v2.Normalize([0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616])
IMAGENET = v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
MNIST = v2.Normalize([0.1307], [0.3081])

SETS: list[tuple[TransformList, list[Any], str]] = [
    (CifarTrain(), [v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip(), ToTensor(), CIFAR], "RGB"),
    (CifarTrain(size=24, padding=0, mean=[0.0] * 3, std=[1.0] * 3), [v2.RandomCrop(24), v2.RandomHorizontalFlip(), ToTensor()], "RGB"),
    (CifarEval(), [ToTensor(), CIFAR], "RGB"),
    (ImagenetTrain(), [v2.RandomResizedCrop(224), v2.RandomHorizontalFlip(), ToTensor(), IMAGENET], "RGB"),
    (ImagenetTrain(64, scale=(0.5, 1.0)), [v2.RandomResizedCrop(64, (0.5, 1.0)), v2.RandomHorizontalFlip(), ToTensor(), IMAGENET], "RGB"),
    (ImagenetEval(), [v2.Resize(256), v2.CenterCrop(224), ToTensor(), IMAGENET], "RGB"),
    (ImagenetEval(20, resize=40), [v2.Resize(40), v2.CenterCrop(20), ToTensor(), IMAGENET], "RGB"),
    (MnistTrain(), [v2.RandomCrop(28, padding=2), ToTensor(), MNIST], "L"),
    (MnistEval(), [ToTensor(), MNIST], "L"),
]


@pytest.mark.parametrize(("ready", "written_out", "mode"), SETS)
def test_a_ready_set_is_the_list_written_out(ready: TransformList, written_out: list[Any], mode: str) -> None:
    for seed in range(5):
        image, _ = Pictures(mode=mode)[seed]
        torch.manual_seed(seed)
        expected = image
        for transform in written_out:
            expected = transform(expected)
        torch.manual_seed(seed)
        assert torch.equal(ready(image), expected)


@pytest.mark.parametrize(
    ("ready", "random"), [(CifarEval(), False), (ImagenetEval(), False), (CifarTrain(), True), (ImagenetTrain(), True)]
)
def test_the_sets_for_training_draw_and_those_for_evaluation_do_not(ready: TransformList, random: bool) -> None:
    image, _ = Pictures()[0]
    results = [ready(image) for _ in range(4)]
    assert all(torch.equal(result, results[0]) for result in results) != random


def test_a_ready_set_can_be_followed_by_other_transforms_and_travels_to_other_processes() -> None:
    image, _ = Pictures()[0]
    both = pickle.loads(pickle.dumps(TransformList([CifarTrain(), Cutout(40, fill=7)])))
    result = both(image)
    assert result.shape == (3, 32, 32)
    assert (result == 7).sum() >= 3 * 20 * 20
