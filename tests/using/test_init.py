"""Folders as people have them: a config is written, and trains as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples.shapes import write_pictures
from tests.support.image_files import write_corrupt
from tests.support.jobs import events, ostinato
from trainer.rundir import RunDir

SHORT = ("train.epochs=2", "hardware.threads=1", "log.tensorboard=false")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Parts with torn files among them, grey, uneven, in a folder whose name is a nuisance."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("mixed")
    root = folder / "my pictures: #1"
    for part, count in {"train": 9, "valid": 3, "test": 3}.items():
        write_pictures(root / part, per_class=count, sides=(50, 70))
    for path in root.rglob("*.png"):
        with Image.open(path) as image:
            gray = image.convert("L")
        gray.save(path)
    for path in [*(root / "train" / "circle").glob("*.png")][2:]:
        path.unlink()
    write_corrupt(root / "train" / "square")
    return folder


def test_an_odd_folder_gets_a_config_that_trains_as_it_is(mixed: Path) -> None:
    written = ostinato(mixed, "init", "my pictures: #1", "--output", "first try.yaml")
    assert written.returncode == 0, written.stderr
    assert "train: 25 pictures of 3 classes: circle 2, square 14, triangle 9" in written.stdout
    assert "grey (L 38, RGB 1)" in written.stdout
    assert written.stdout.count("cannot be read: ") == 5
    assert "the classes differ much in size" in written.stdout
    planned = ostinato(mixed, "train", "first try.yaml", "--dry-run")
    assert planned.returncode == 0, planned.stderr
    done = ostinato(mixed, "train", "first try.yaml", *SHORT)
    assert done.returncode == 0, done.stderr
    assert events(RunDir(mixed / "runs" / "first-try"), "finished")
    assert "test loss" in done.stdout


def test_a_known_set_gets_a_config_that_trains_as_it_is(tmp_path: Path) -> None:
    written = ostinato(tmp_path, "init", "Digits")
    assert (written.returncode, written.stderr) == (0, "")
    done = ostinato(tmp_path, "train", "digits.yaml", *SHORT)
    assert done.returncode == 0, done.stderr


def test_a_flat_folder_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / "photos").mkdir(exist_ok=True)
        (tmp_path / "photos" / f"{number}.jpg").touch()
    done = ostinato(tmp_path, "init", "photos")
    assert done.returncode == 2
    assert done.stderr == (
        "ostinato: photos: 3 pictures in one folder, and nothing says what they show; "
        "put them into one folder a class, such as photos/cats/1.jpg and photos/dogs/1.jpg\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]
