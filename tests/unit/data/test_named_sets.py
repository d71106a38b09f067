"""torchvision's data sets by name: their arguments reach them, and files that are not there are one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cifar_files import write_mnist, write_svhn
from trainer.data.splits import class_labels
from trainer.data.transforms import Transformed
from trainer.data.vision_sets import is_torchvisions, open_set
from trainer.errors import TrainingError
from trainer.registry import resolve


def test_a_set_is_found_by_its_own_name_and_its_train_argument_counts(tmp_path: Path) -> None:
    write_mnist(tmp_path, "FashionMNIST", train=40, test=20)
    named = resolve("dataset", "FashionMNIST")
    assert is_torchvisions(named)
    train, test = (open_set(named, {"root": str(tmp_path), "train": train}) for train in (True, False))
    assert (len(train), len(test)) == (40, 20)
    value, label = Transformed(train)[13]
    assert (value.shape, label) == ((1, 28, 28), 3)
    assert class_labels(train).tolist() == [i % 10 for i in range(40)]


def test_a_split_argument_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_svhn(tmp_path, monkeypatch, train=12, test=8)
    named = resolve("dataset", "SVHN")
    train, test = (open_set(named, {"root": str(tmp_path), "split": split}) for split in ("train", "test"))
    assert (len(train), len(test)) == (12, 8)
    assert Transformed(train)[0][0].shape == (3, 32, 32)
    with pytest.raises(ValueError, match="Unknown value 'dev' for argument split"):
        open_set(named, {"root": str(tmp_path), "split": "dev"})


@pytest.mark.parametrize(
    "name", ["FashionMNIST", "SVHN", "STL10", "USPS", "EuroSAT", "Food101", "DTD", "Caltech101", "OxfordIIITPet", "GTSRB"]
)
def test_files_that_are_not_there_are_one_line_with_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(TrainingError) as caught:
        open_set(resolve("dataset", name), {"root": str(tmp_path / "nowhere")})
    assert (
        str(caught.value)
        == f"{name}: not in {tmp_path / 'nowhere'}, or damaged there; set download: true to fetch it, or root to where it is"
    )


def test_what_cannot_be_downloaded_is_not_offered_for_download(tmp_path: Path) -> None:
    with pytest.raises(TrainingError) as caught:
        open_set(resolve("dataset", "ImageNet"), {"root": str(tmp_path)})
    assert str(caught.value).startswith(f"ImageNet: {tmp_path}: The archive ILSVRC2012_devkit_t12.tar.gz is not present")
    assert "\n" not in str(caught.value)
    assert "download: true" not in str(caught.value)


def test_a_failed_download_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    named = resolve("dataset", "FashionMNIST")
    monkeypatch.setattr(named, "mirrors", ["http://127.0.0.1:9/"])  # nobody listens there
    with pytest.raises(
        TrainingError, match=r"FashionMNIST: download to .* failed: .*; put the files there by hand, or try again"
    ) as caught:
        open_set(named, {"root": str(tmp_path), "download": True})
    assert "\n" not in str(caught.value)
    assert f"FashionMNIST: not in {tmp_path}; downloading it there, once" in capsys.readouterr().out


FETCH = """
import sys, time
from pathlib import Path
from trainer.data.vision_sets import open_set

class Slow:
    def __init__(self, root, download=False):
        self.file = Path(root, "data")
        if not self.file.exists() and not download:
            raise RuntimeError("Dataset not found. You can use download=True to download it")
        if download:
            with open(Path(root, "fetched"), "a") as log:
                log.write("once\\n")
            time.sleep(1)
            self.file.write_text("here")

open_set(Slow, {"root": sys.argv[1], "download": True})
"""


def test_of_many_processes_that_want_a_set_one_fetches_it(tmp_path: Path) -> None:
    started = [subprocess.Popen([sys.executable, "-c", FETCH, str(tmp_path)], stdout=subprocess.PIPE) for _ in range(3)]
    assert [process.communicate(timeout=120) and process.returncode for process in started] == [0, 0, 0]
    assert (tmp_path / "fetched").read_text() == "once\n"
