"""torchvision's transforms by name with arguments as YAML has them, and our own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import ConcatDataset

from tests.unit.data.picture_sets import SIZE, Pictures
from trainer.config.strict_yaml import parse
from trainer.data.loader import TrainLoader, eval_batches
from trainer.data.order import BatchPlan
from trainer.data.transforms import Cutout, ToDtype, ToTensor, Transformed, TransformList, make_transform
from trainer.errors import ConfigError
from trainer.registry import resolve

RECIPES = {
    "RandomCrop": "[{target: RandomCrop, size: 32, padding: 4}]",
    "RandomCrop with lists and a mode": "[{target: RandomCrop, size: [32, 32], padding: [4, 2, 4, 2], padding_mode: reflect}]",
    "RandomHorizontalFlip": "[{target: RandomHorizontalFlip}]",
    "ColorJitter": "[{target: ColorJitter, brightness: 0.4, contrast: [0.6, 1.4], saturation: 0.4, hue: 0.1}]",
    "RandAugment": "[{target: RandAugment, num_ops: 2, magnitude: 9, interpolation: bilinear}]",
    "TrivialAugmentWide": "[{target: TrivialAugmentWide}]",
    "AutoAugment": "[{target: AutoAugment, policy: cifar10}]",
    "RandomErasing": "[{target: ToTensor}, {target: RandomErasing, p: 0.9, scale: [0.1, 0.3], value: 0.5}]",
    "RandomResizedCrop": "[{target: RandomResizedCrop, size: 32, scale: [0.3, 1.0], interpolation: bicubic}]",
    "RandomAffine": "[{target: RandomAffine, degrees: 20, translate: [0.1, 0.1], shear: 5, interpolation: bilinear, fill: [9, 8, 7]}]",
    "RandomApply": "[{target: RandomApply, p: 0.5, transforms: [{target: ColorJitter, hue: 0.3}, {target: RandomRotation, degrees: 9}]}]",
    "RandomChoice": "[{target: RandomChoice, transforms: [{target: random_vertical_flip, p: 1.0}, {target: RandomGrayscale, p: 1.0}]}]",
    "GaussianNoise": "[{target: GaussianNoise, sigma: 0.2}]",
    "ToImage and ToDtype": "[{target: ToImage}, {target: RandomHorizontalFlip}, {target: ToDtype, dtype: float32, scale: true}]",
    "Cutout": "[{target: trainer.data.transforms:Cutout, pixels: 8}]",
}
NORMALIZE = {"target": "Normalize", "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}


def made(text: str) -> TransformList:
    """The transforms of a YAML list."""
    entries: Any = parse(text).value
    return TransformList([one(entry) for entry in entries])


def one(entry: dict[str, Any]) -> Any:
    name = {"ToDtype": "trainer.data.transforms:ToDtype"}.get(entry["target"], entry["target"])
    return make_transform(resolve("transform", name), {key: value for key, value in entry.items() if key != "target"})


def read(dataset: Any, world: int = 1, loader_workers: int = 0, epoch: int = 0) -> torch.Tensor:
    """An epoch's inputs, whoever reads them, in the plan's order."""
    plan = BatchPlan(len(dataset), 12, 6, seed=5)
    ranks = []
    for rank in range(world):
        loader = TrainLoader(dataset, plan, rank=rank, world_size=world, loader_workers=loader_workers)
        ranks.append([torch.cat([inputs for inputs, _ in step]) for step in loader.epoch(epoch)])
        loader.close()
    return torch.cat([torch.cat(parts) for parts in zip(*ranks, strict=True)])


@pytest.mark.parametrize("name", RECIPES)
def test_a_transform_named_in_yaml_changes_images_by_seed_epoch_and_sample_alone(name: str) -> None:
    pictures = Transformed(Pictures(), made(RECIPES[name]))
    expected = read(pictures)
    assert expected.dtype == torch.float32
    assert expected.shape == (12, 3, SIZE, SIZE)
    assert not torch.equal(expected, read(Transformed(Pictures())))
    assert not torch.equal(expected, read(pictures, epoch=1).clone()[torch.argsort(order(1))][order(0)])
    torch.manual_seed(99)
    for world in (2, 3):
        assert torch.equal(read(pictures, world), expected)


def order(epoch: int) -> torch.Tensor:
    """The sample numbers of the epoch that `read` reads."""
    return torch.from_numpy(BatchPlan(12, 12, 6, seed=5).batch(epoch, 0).copy())


@pytest.mark.parametrize("world", [1, 3])
def test_loader_workers_transform_with_the_same_bits(world: int) -> None:
    dataset = ConcatDataset([Transformed(Pictures(), made(text)) for text in RECIPES.values()])
    expected = read(dataset)
    assert torch.equal(read(dataset, world, loader_workers=2), expected)


def test_an_evaluation_transforms_each_sample_alike_whoever_reads() -> None:
    dataset = ConcatDataset([Transformed(Pictures(), made(text)) for text in RECIPES.values()])
    whole = {k: inputs for k, inputs, _ in eval_batches(dataset, 7)}
    for world in (2, 3):
        shared = {k: inputs for rank in range(world) for k, inputs, _ in eval_batches(dataset, 7, rank=rank, world_size=world)}
        assert sorted(shared) == sorted(whole)
        assert all(torch.equal(shared[k], whole[k]) for k in whole)
    behind = {k: inputs for k, inputs, _ in eval_batches(dataset, 7, loader_workers=2)}
    assert all(torch.equal(behind[k], whole[k]) for k in whole)


def test_options_of_a_fixed_set_are_given_as_text() -> None:
    from torchvision.transforms import v2

    image, _ = Pictures()[0]
    for text in ("bilinear", "BILINEAR", "nearest"):
        resized = made(f"[{{target: Resize, size: 16, interpolation: {text}}}]")(image)
        assert torch.equal(resized, ToTensor()(v2.functional.resize(image, [16], v2.InterpolationMode[text.upper()])))
    assert one({"target": "AutoAugment", "policy": "cifar10"}).policy is v2.AutoAugmentPolicy.CIFAR10
    assert one({"target": "AutoAugment", "policy": "svhn"}).policy is v2.AutoAugmentPolicy.SVHN


def test_an_option_that_does_not_exist_is_told_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"interpolation is 'bilinaer' \(did you mean 'bilinear'\?\)"):
        one({"target": "Resize", "size": 8, "interpolation": "bilinaer"})
    with pytest.raises(ValueError, match="policy is 'mine'; it can be imagenet, cifar10, svhn"):
        one({"target": "AutoAugment", "policy": "mine"})
    with pytest.raises(ConfigError, match="there is no transform 'ColorJiter'"):
        one({"target": "RandomApply", "transforms": [{"target": "ColorJiter"}]})


def test_a_list_becomes_a_tuple_where_one_is_asked_for() -> None:
    def takes(pair: tuple[int, int], many: list[int]) -> Any:
        return pair, many

    assert make_transform(takes, {"pair": [1, 2], "many": [3]}) == ((1, 2), [3])


def test_a_list_inside_the_list_is_one_transform() -> None:
    entry: dict[str, Any] = {
        "target": "trainer.data.transforms:TransformList",
        "transforms": [{"target": "CenterCrop", "size": 8}, NORMALIZE],
    }
    image, _ = Pictures()[0]
    assert torch.equal(one(entry)(image), TransformList([one(entry["transforms"][0]), one(NORMALIZE)])(image))


def test_to_dtype_makes_tensors_of_images_of_any_kind() -> None:
    image, _ = Pictures()[0]
    torch.testing.assert_close(torch.as_tensor(ToDtype("float32", scale=True)(image)), ToTensor()(image))
    assert ToDtype("float32")(image).max() > 1
    assert torch.equal(ToDtype("uint8", scale=True)(ToTensor()(image)), ToDtype("uint8")(image))
    batch = torch.stack([ToDtype("uint8")(image)] * 2)
    assert torch.equal(ToDtype("float32", scale=True).whole_batch(batch)[1], ToDtype("float32", scale=True)(image))


def test_cutout_fills_a_square_and_leaves_the_rest_as_it_was() -> None:
    image = torch.rand(3, 20, 30) + 1
    full = 0
    for seed in range(200):
        torch.manual_seed(seed)
        cut = Cutout(6, fill=-2)(image)
        hole = (cut == -2).all(0)
        assert torch.equal(cut[:, ~hole], image[:, ~hole])
        assert (cut[:, hole] == -2).all()
        rows, columns = hole.any(1).nonzero().flatten(), hole.any(0).nonzero().flatten()
        assert hole.sum() == len(rows) * len(columns)  # it is a rectangle
        inside = rows[0] > 0 and rows[-1] < 19 and columns[0] > 0 and columns[-1] < 29
        assert (len(rows), len(columns)) == (6, 6) if inside else min(len(rows), len(columns)) >= 3
        full += bool(hole.sum() == 36)
    assert 60 < full < 160  # (15 · 25) / (20 · 30) of 200 is 125; the others are cut at the border
    assert image.min() >= 1  # the caller's image is untouched


def test_every_pixel_is_the_centre_of_a_cutout_equally_often() -> None:
    torch.manual_seed(0)
    holes = Cutout(1).whole_batch(torch.ones(20_000, 1, 4, 5)) == 0
    assert (holes.sum((1, 2, 3)) == 1).all()
    counts = holes.sum((0, 1)).flatten()
    assert float(((counts - 1000) ** 2 / 1000).sum()) < 45  # chi² with 19 degrees of freedom: one in 1,400 is above


def test_cutout_takes_images_as_tensors_and_refuses_a_square_of_nothing() -> None:
    image, _ = Pictures()[0]
    cut = TransformList([Cutout(8)])(image)
    assert cut.shape == (3, SIZE, SIZE)
    assert 16 <= int((cut == 0).all(0).sum()) <= 64
    with pytest.raises(ValueError, match="pixels is 0; it must be 1 or more"):
        Cutout(0)
