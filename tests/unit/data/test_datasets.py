"""Data sets by short name, and the transforms in front of them."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.cifar_files import CLASSES, accept_cifar10, write_cifar10
from trainer.data.datasets import ArrayDataset, Digits, cifar10, fake_data, image_folder, mnist
from trainer.data.loader import TrainLoader
from trainer.data.order import BatchPlan
from trainer.data.transforms import ToTensor, Transformed, TransformList, with_transforms
from trainer.errors import TrainingError


def test_the_digits_are_scikit_learns() -> None:
    from sklearn.datasets import load_digits

    parts = [Digits(split) for split in ("train", "valid", "test")]
    ours = sorted((*(row * 16).flatten().tolist(), int(target)) for part in parts for row, target in part)
    table = load_digits()
    assert ours == sorted((*image.flatten().tolist(), int(target)) for image, target in zip(table.images, table.target, strict=True))
    assert [len(part) for part in parts] == [1257, 270, 270]


def test_the_digits_do_not_import_scikit_learn() -> None:
    program = "import sys; from trainer.data.datasets import Digits; Digits('train'); sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_the_digits_come_in_the_form_a_network_takes() -> None:
    digits = Digits("test")
    images, targets = digits.get_batch(np.array([3, 1]))
    assert images.shape == (2, 1, 8, 8)
    assert (images.dtype, targets.dtype) == (torch.float32, torch.int64)
    assert (images.min(), images.max()) == (0, 1)
    assert torch.equal(images[1], digits[1][0])
    assert digits.classes == list("0123456789")


def test_the_split_of_the_digits_is_the_same_each_time_and_another_for_another_seed() -> None:
    assert torch.equal(Digits("test").inputs, Digits("test").inputs)
    assert not torch.equal(Digits("test").inputs, Digits("test", seed=1).inputs)


def test_a_split_that_does_not_exist_is_refused() -> None:
    with pytest.raises(TrainingError, match="no split 'validation'; use train, valid or test"):
        Digits("validation")  # type: ignore[arg-type]
    with pytest.raises(TrainingError, match="leave no training set"):
        Digits("train", valid_fraction=0.6, test_fraction=0.6)


def test_fake_images_are_a_function_of_their_number() -> None:
    images = fake_data(size=20, image_size=[3, 8, 8], num_classes=4)
    batch, targets = images.get_batch(np.array([7, 2, 7]))
    assert batch.shape == (3, 3, 8, 8)
    assert torch.equal(batch[0], batch[2])
    assert torch.equal(batch[1], images[2][0])
    assert 0 <= int(targets.min()) <= int(targets.max()) < 4
    assert torch.equal(batch, fake_data(size=20, image_size=[3, 8, 8], num_classes=4).get_batch(np.array([7, 2, 7]))[0])
    assert not torch.equal(batch, fake_data(size=20, image_size=[3, 8, 8], num_classes=4, seed=1).get_batch(np.array([7, 2, 7]))[0])
    with pytest.raises(IndexError):
        images[20]


def test_cifar10_is_read_from_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accept_cifar10(monkeypatch, write_cifar10(tmp_path, per_batch=4))
    train, test = cifar10(str(tmp_path)), cifar10(str(tmp_path), train=False)
    assert (len(train), len(test)) == (20, 4)
    assert train.classes == CLASSES
    raw = pickle.loads((tmp_path / "cifar-10-batches-py" / "data_batch_2").read_bytes())
    image, target = Transformed(train)[5]
    assert torch.equal(image, torch.from_numpy(raw["data"][1].reshape(3, 32, 32)).float() / 255)
    assert target == raw["labels"][1]


def test_files_that_are_missing_or_damaged_are_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accept_cifar10(monkeypatch, write_cifar10(tmp_path))
    with (tmp_path / "cifar-10-batches-py" / "data_batch_3").open("ab") as file:
        file.write(b"x")
    for make, root in [(cifar10, tmp_path), (mnist, tmp_path), (cifar10, tmp_path / "nowhere")]:
        with pytest.raises(TrainingError) as caught:
            make(str(root))
        assert str(root) in str(caught.value)
        assert "download: true" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_download_is_said_aloud_and_its_failure_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    accept_cifar10(monkeypatch, write_cifar10(tmp_path / "elsewhere"))
    from torchvision.datasets import CIFAR10

    monkeypatch.setattr(CIFAR10, "url", "http://127.0.0.1:9/cifar-10-python.tar.gz")  # nobody listens there
    with pytest.raises(TrainingError, match=r"CIFAR10: download to .* failed: .*; put the files there by hand, or try again"):
        cifar10(str(tmp_path / "new"), download=True)
    assert f"CIFAR10: not in {tmp_path / 'new'}; downloading it there, once" in capsys.readouterr().out


def test_files_that_are_there_are_not_downloaded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accept_cifar10(monkeypatch, write_cifar10(tmp_path))
    assert len(cifar10(str(tmp_path), download=True)) == 50


def test_a_folder_of_images_is_a_data_set(tmp_path: Path) -> None:
    from PIL import Image

    for name, grey in (("cat", 10), ("dog", 200)):
        (tmp_path / name).mkdir()
        Image.new("RGB", (4, 3), (grey, 0, 255)).save(tmp_path / name / "1.png")
    images = Transformed(image_folder(str(tmp_path)))
    assert images.classes == ["cat", "dog"]
    value, target = images[1]
    assert target == 1
    assert value.shape == (3, 3, 4)
    assert value[:, 0, 0].tolist() == pytest.approx([200 / 255, 0, 1])
    with pytest.raises(TrainingError, match="no such folder; name one that holds a folder of images a class"):
        image_folder(str(tmp_path / "nowhere"))


def test_an_image_becomes_a_tensor_where_it_must() -> None:
    from PIL import Image

    from trainer.vision import import_torchvision

    import_torchvision()
    from torchvision.transforms import v2

    image = Image.new("RGB", (4, 4), (255, 0, 51))
    changed = TransformList([v2.RandomHorizontalFlip(), v2.Normalize([0.5] * 3, [0.5] * 3)])(image)
    assert changed[:, 0, 0].tolist() == pytest.approx([1, -1, -0.6])
    assert torch.equal(TransformList([])(image), ToTensor()(image))


@pytest.mark.parametrize(("mode", "colour", "expected"), [("L", 51, [0.2]), ("1", 1, [1.0]), ("RGBA", (255, 0, 0, 51), [1, 0, 0, 0.2])])
def test_images_of_any_mode_become_tensors_in_the_unit_interval(mode: str, colour: object, expected: list[float]) -> None:
    from PIL import Image

    value = ToTensor()(Image.new(mode, (2, 3), colour))
    assert value.shape == (len(expected), 3, 2)
    assert value[:, 0, 0].tolist() == pytest.approx(expected)


def test_transforms_touch_inputs_only_and_travel_to_other_processes() -> None:
    doubled = Transformed(Digits("valid"), [torch.neg])
    again = pickle.loads(pickle.dumps(doubled))
    value, target = again[4]
    original, label = Digits("valid")[4]
    assert torch.equal(value, -original)
    assert target == label
    assert doubled.classes == list("0123456789")
    assert len(doubled) == 270


def test_without_transforms_a_data_set_keeps_its_way_of_reading_whole_batches() -> None:
    digits = Digits("valid")
    assert with_transforms(digits) is digits
    assert not hasattr(with_transforms(digits, [torch.neg]), "get_batch")
    plan = BatchPlan(270, 27, 1, seed=0)
    whole = [step[0][0] for step in TrainLoader(digits, plan).epoch(0)]
    single = [step[0][0] for step in TrainLoader(with_transforms(digits, [torch.clone]), plan).epoch(0)]
    assert all(torch.equal(a, b) for a, b in zip(whole, single, strict=True))


def test_an_array_data_set_gives_rows() -> None:
    rows = ArrayDataset(torch.arange(6).reshape(3, 2), torch.arange(3))
    assert rows[2][0].tolist() == [4, 5]
    assert rows.get_batch(np.array([2, 0]))[1].tolist() == [2, 0]
