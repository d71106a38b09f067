"""`in_memory`: transforms of whole micro-batches do to each image what they do to one, equally often, whoever reads."""

from __future__ import annotations

import gzip
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.cifar_files import CLASSES, accept_cifar10, write_cifar10
from tests.unit.data.picture_sets import Brighter, Pictures
from trainer.data.datasets import ArrayDataset, Digits, cifar10, fake_data, mnist
from trainer.data.labels import check_labels
from trainer.data.loader import TrainLoader, eval_batches
from trainer.data.order import BatchPlan
from trainer.data.sets import CifarEval, CifarTrain, MnistTrain
from trainer.data.splits import subset
from trainer.data.transforms import Cutout, ToDtype, ToTensor, Transformed, TransformList, torchvision_v2, with_transforms
from trainer.data.whole_batch import InMemory, WholeBatches, whole_batch
from trainer.errors import ConfigError, TrainingError

v2: Any = torchvision_v2()
ALL = [CifarTrain(), v2.RandomVerticalFlip(), Cutout(8), Brighter(0.5)]
N = 6000


class Tiled(ArrayDataset):
    """N copies of one image, whose pixels tell their place."""

    def __init__(self, height: int = 4, width: int = 5) -> None:
        image = torch.arange(1, 2 * height * width + 1, dtype=torch.float32).view(1, 2, height, width)
        super().__init__(image.expand(N, -1, -1, -1), torch.zeros(N, dtype=torch.int64))


def outcomes(images: torch.Tensor) -> dict[bytes, int]:
    """How often each picture comes."""
    found: dict[bytes, int] = {}
    for image in images:
        key = image.contiguous().numpy().tobytes()
        found[key] = found.get(key, 0) + 1
    return found


@pytest.mark.parametrize(
    ("transform", "kinds"),
    [
        (lambda: v2.RandomCrop((4, 5), padding=2), 25),
        (lambda: v2.RandomCrop((4, 5), padding=[1, 0, 2, 3], fill=9), 16),
        (lambda: v2.RandomCrop((4, 5), padding=[2, 1], padding_mode="reflect"), 15),
        (lambda: v2.RandomCrop(4, padding=(1, 1), padding_mode="edge"), 12),
        (lambda: v2.RandomCrop((3, 2)), 8),
        (lambda: v2.RandomCrop((5, 7), pad_if_needed=True, padding_mode="symmetric"), 6),
        (lambda: v2.RandomCrop((4, 5)), 1),
        (lambda: v2.RandomHorizontalFlip(), 2),
        (lambda: v2.RandomVerticalFlip(), 2),
        (lambda: Cutout(2), 20),
        (lambda: TransformList([v2.RandomHorizontalFlip(), v2.RandomCrop((4, 5), padding=1)]), 18),
    ],
)
def test_every_outcome_is_that_of_a_single_image_and_equally_frequent(transform: Callable[[], Any], kinds: int) -> None:
    torch.manual_seed(0)
    single = Transformed(Tiled(), [transform()])
    one_by_one = outcomes(torch.stack([single[index][0] for index in range(1500)]))
    whole = outcomes(whole_batch(InMemory(Tiled()), [transform()]).get_batch(np.arange(N))[0])
    assert whole.keys() == one_by_one.keys()  # each of them, bit for bit
    assert len(whole) == kinds
    expected = N / kinds
    chi2 = sum((count - expected) ** 2 / expected for count in whole.values())
    assert chi2 < kinds - 1 + 4 * (2 * kinds) ** 0.5  # four standard deviations above the mean


def test_a_probability_is_kept() -> None:
    torch.manual_seed(0)
    (images, _) = whole_batch(InMemory(Tiled()), [v2.RandomHorizontalFlip(p=0.2)]).get_batch(np.arange(N))
    flipped = (images[:, 0, 0, 0] != 1).double()
    assert abs(float(flipped.mean()) - 0.2) < 4 * (0.16 / N) ** 0.5
    both = float((flipped[1:] * flipped[:-1]).mean())  # neighbours are drawn independently
    assert abs(both - 0.04) < 4 * (0.04 / N) ** 0.5


def test_parts_of_one_transform_are_drawn_independently() -> None:
    torch.manual_seed(0)
    transforms = [v2.RandomCrop((4, 5), padding=1), v2.RandomHorizontalFlip()]
    counts = outcomes(whole_batch(InMemory(Tiled()), transforms).get_batch(np.arange(N))[0])
    assert len(counts) == 18  # every row with every column and both directions
    assert min(counts.values()) > 230 < max(counts.values()) < 450  # of 333 each


def read(dataset: Any, world: int = 1, loader_workers: int = 0, epoch: int = 0) -> torch.Tensor:
    """An epoch's inputs and targets, whoever reads them, in the plan's order."""
    plan = BatchPlan(len(dataset), 16, 4, seed=5)
    ranks = []
    for rank in range(world):
        loader = TrainLoader(dataset, plan, rank=rank, world_size=world, loader_workers=loader_workers)
        steps = list(loader.epoch(epoch))
        ranks.append([torch.cat([torch.cat([x.flatten(1), y.unsqueeze(1)], 1) for x, y in step]) for step in steps])
        loader.close()
    return torch.cat([torch.cat(parts) for parts in zip(*ranks, strict=True)])


def test_the_bits_are_the_same_whoever_reads_a_micro_batch() -> None:
    dataset = with_transforms(InMemory(Pictures(50)), ALL)
    expected = read(dataset)
    torch.manual_seed(99)
    for world, loader_workers in [(1, 2), (2, 0), (4, 0), (2, 1)]:
        assert torch.equal(read(dataset, world, loader_workers), expected)
    assert not torch.equal(read(dataset, epoch=1), expected)


def test_an_evaluation_reads_the_same_whoever_reads() -> None:
    dataset = with_transforms(InMemory(Pictures(30)), ALL)
    whole = [inputs for _, inputs, _ in eval_batches(dataset, 8)]
    shared = {k: inputs for rank in range(3) for k, inputs, _ in eval_batches(dataset, 8, rank=rank, world_size=3)}
    assert all(torch.equal(shared[k], inputs) for k, inputs in enumerate(whole))


@pytest.mark.parametrize(
    "transforms",
    [
        [],
        [CifarEval()],
        [v2.CenterCrop(20), ToTensor()],
        [v2.Pad(2, fill=3), CifarEval()],
        [v2.ToImage(), ToDtype("float32", scale=True), v2.Normalize([0.5], [0.5])],
        [TransformList([v2.CenterCrop(8), v2.Normalize([0.1, 0.2, 0.3], [0.7, 0.8, 0.9])]), Brighter(1.0)],
    ],
)
def test_without_chance_the_bits_are_those_of_image_by_image(transforms: list[Any]) -> None:
    single = Transformed(Pictures(9), transforms)
    images, targets = with_transforms(InMemory(Pictures(9)), transforms).get_batch(np.arange(9))
    assert torch.equal(torch.as_tensor(images), torch.stack([torch.as_tensor(single[index][0]) for index in range(9)]))
    assert images.dtype == torch.float32
    assert targets.tolist() == [single[index][1] for index in range(9)]


def test_cifar10_is_held_as_it_lies_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accept_cifar10(monkeypatch, write_cifar10(tmp_path, per_batch=4))
    held = InMemory({"target": "cifar10", "root": str(tmp_path)})
    raw = [pickle.loads((tmp_path / "cifar-10-batches-py" / f"data_batch_{i}").read_bytes()) for i in range(1, 6)]
    assert torch.equal(held.inputs, torch.from_numpy(np.concatenate([part["data"] for part in raw]).reshape(-1, 3, 32, 32)))
    assert held.targets.tolist() == [label for part in raw for label in part["labels"]]
    assert held.classes == CLASSES
    single = Transformed(cifar10(str(tmp_path)), [CifarEval()])
    images, _ = with_transforms(held, [CifarEval()]).get_batch(np.array([13, 2]))
    assert torch.equal(images, torch.stack([single[13][0], single[2][0]]))


def test_mnist_is_held_with_its_one_channel(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    pixels = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (6, 28, 28), dtype=np.uint8)
    images = bytes([0, 0, 8, 3]) + np.array([6, 28, 28], dtype=">i4").tobytes() + pixels.tobytes()
    labels = bytes([0, 0, 8, 1]) + np.array([6], dtype=">i4").tobytes() + bytes([3, 1, 4, 1, 5, 9])
    for name, content in [("train-images-idx3-ubyte", images), ("train-labels-idx1-ubyte", labels)]:
        (raw / name).write_bytes(content)
        (raw / f"{name}.gz").write_bytes(gzip.compress(content))
        for other in (name.replace("train", "t10k"), f"{name.replace('train', 't10k')}.gz"):
            (raw / other).write_bytes(content)
    held = InMemory(mnist(str(tmp_path)))
    assert torch.equal(held.inputs, torch.from_numpy(pixels).unsqueeze(1))
    assert held.targets.tolist() == [3, 1, 4, 1, 5, 9]
    batch, _ = with_transforms(held, [MnistTrain()]).get_batch(np.arange(6))
    assert batch.shape == (6, 1, 28, 28)


def test_sets_that_are_tensors_already_are_held_as_they_are() -> None:
    for dataset in (Digits("valid"), fake_data(20, [3, 8, 8])):
        images, targets = with_transforms(InMemory(dataset), [v2.Normalize([0.5], [0.25])]).get_batch(np.array([7, 3]))
        assert torch.equal(images[1], (dataset[3][0] - 0.5) / 0.25)
        assert targets[1] == dataset[3][1]


class Drawn(Pictures):
    """Pictures whose pixels are drawn when they are read."""

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return torch.rand(3, 4, 4), index


class Told(Pictures):
    """A set whose array is not what it gives."""

    data = np.zeros((12, 32, 32, 3), dtype=np.uint8)
    targets = [0] * 12


def test_what_a_set_draws_while_it_is_read_in_is_the_same_for_every_worker() -> None:
    torch.manual_seed(1)
    first = InMemory(Drawn())
    torch.manual_seed(2)
    assert torch.equal(first.inputs, InMemory(Drawn()).inputs)
    assert not torch.equal(first.inputs[0], first.inputs[1])


def test_an_array_that_is_not_what_the_set_gives_is_not_believed() -> None:
    assert torch.equal(InMemory(Told()).inputs, InMemory(Pictures()).inputs)


def test_images_of_several_sizes_cannot_be_held_and_the_odd_one_is_named(tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "cat").mkdir()
    for number, size in enumerate([(4, 4), (4, 4), (5, 4)]):
        Image.new("RGB", size, (1, 2, 3)).save(tmp_path / "cat" / f"{number}.png")
    with pytest.raises(TrainingError, match=r"sample 2 \(.*cat/2.png\) is uint8 \[3, 4, 5\], the first one uint8 \[3, 4, 4\]; all must be"):
        InMemory({"target": "image_folder", "root": str(tmp_path)})
    (tmp_path / "cat" / "1.png").write_bytes(b"no picture")
    with pytest.raises(
        TrainingError, match=r"in_memory: \w+: sample 1 \(.*cat/1.png\) cannot be read: no image, or of a kind that is not known$"
    ):
        InMemory({"target": "image_folder", "root": str(tmp_path)})


def test_what_is_no_set_of_images_is_refused() -> None:
    with pytest.raises(TrainingError, match=r"ArrayDataset holds no images \(n, channels, height, width\), but float32 \[3, 2\]"):
        InMemory(ArrayDataset(torch.zeros(3, 2), torch.zeros(3)))
    with pytest.raises(ConfigError, match="'of' is a data set: a mapping with a target"):
        InMemory({"root": "data"})
    with pytest.raises(ConfigError, match=r"in_memory: dataset digits: .*unexpected keyword argument 'spilt'"):
        InMemory({"target": "digits", "spilt": "train"})
    with pytest.raises(ConfigError, match="there is no dataset 'digit'"):
        InMemory({"target": "digit"})


def test_a_transform_without_a_form_for_batches_is_named() -> None:
    with pytest.raises(
        ConfigError, match="in_memory: ColorJitter, RandomRotation cannot act on whole batches; leave in_memory out"
    ) as caught:
        with_transforms(InMemory(Digits("valid")), [v2.ColorJitter(0.1), CifarEval(), v2.RandomRotation(3), v2.ColorJitter(0.2)])
    assert "RandomCrop" in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(TrainingError, match="RandomCrop: size 9×9 is larger than an image of 8×8"):
        with_transforms(InMemory(Digits("valid")), [v2.RandomCrop(9)]).get_batch(np.arange(2))


def test_only_a_set_that_asks_for_it_is_read_in_whole_batches() -> None:
    assert isinstance(with_transforms(Digits("valid"), [CifarTrain()]), Transformed)
    held = with_transforms(InMemory(Digits("valid")), [v2.RandomHorizontalFlip()])
    assert isinstance(held, WholeBatches)
    assert held.classes == list("0123456789")
    assert len(held) == 270
    check_labels(held, 10)
    with pytest.raises(TrainingError, match=r"has label \d"):
        check_labels(held, 5)


def test_a_part_of_a_set_in_memory_is_read_in_whole_batches_too() -> None:
    part = with_transforms(subset(InMemory(Pictures()), np.array([5, 1, 8])), [CifarEval()])
    assert isinstance(part, WholeBatches)
    assert torch.equal(part[2][0], Transformed(Pictures(), [CifarEval()])[8][0])
    with pytest.raises(IndexError):
        part[3]


def test_a_set_of_torchvisions_in_memory_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=rf"^SVHN: not in {tmp_path}/none, or damaged there; set download: true to fetch it") as caught:
        InMemory({"target": "SVHN", "root": str(tmp_path / "none")})
    assert "\n" not in str(caught.value)
