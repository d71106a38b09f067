"""Image files of every kind become the colours asked for, and a corrupt one says which it is."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from tests.support.image_files import BLUE, GREEN, RED, write_corrupt, write_folder, write_kinds
from trainer.data.bad_samples import BadSamples
from trainer.data.images import ImageReader, image_folder
from trainer.data.loader import TrainLoader
from trainer.data.names import UnreadableFile
from trainer.data.order import BatchPlan
from trainer.data.transforms import Transformed
from trainer.errors import TrainingError

WHITE = (255, 255, 255)


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_kinds(tmp_path_factory.mktemp("kinds"))


@pytest.mark.parametrize(
    ("kind", "colour"),
    [
        ("rgb", RED),
        ("gray", (100, 100, 100)),
        ("one_bit", WHITE),
        ("palette", GREEN),
        ("clear_palette", WHITE),
        ("alpha", WHITE),
        ("gray_alpha", WHITE),
        ("half", (127, 127, 127)),
        ("sixteen", (128, 128, 128)),
        ("cmyk.tif", GREEN),
    ],
)
def test_any_kind_of_file_becomes_rgb(kinds: dict[str, Path], kind: str, colour: tuple[int, int, int]) -> None:
    image = ImageReader("rgb")(str(kinds[kind]))
    assert (image.mode, image.size) == ("RGB", (4, 2))
    assert np.abs(np.asarray(image).astype(int) - colour).max() <= 1


def test_a_cmyk_photograph_becomes_rgb(kinds: dict[str, Path]) -> None:
    image = ImageReader("rgb")(str(kinds["cmyk.jpg"]))
    assert image.mode == "RGB"
    assert np.abs(np.asarray(image).astype(int) - RED).max() <= 6


def test_what_is_transparent_shows_the_background_asked_for(kinds: dict[str, Path]) -> None:
    reader = ImageReader("rgb", background=[0, 0, 255])
    for kind in ("alpha", "gray_alpha", "clear_palette"):
        assert (np.asarray(reader(str(kinds[kind]))) == BLUE).all()
    assert (np.asarray(reader(str(kinds["rgb"]))) == RED).all()


def test_gray_and_rgba_are_kinds_of_their_own(kinds: dict[str, Path]) -> None:
    gray = {kind: ImageReader("gray")(str(kinds[kind])) for kind in kinds if kind != "real.tif"}
    assert {image.mode for image in gray.values()} == {"L"}
    assert np.asarray(gray["sixteen"]).max() == 128
    assert np.asarray(gray["alpha"]).min() == 255
    assert np.asarray(gray["rgb"]).max() == round(0.299 * 255)
    rgba = {kind: ImageReader("rgba")(str(kinds[kind])) for kind in kinds if kind != "real.tif"}
    assert {image.mode for image in rgba.values()} == {"RGBA"}
    assert np.asarray(rgba["alpha"])[0, 0].tolist() == [*BLUE, 0]
    assert np.asarray(rgba["palette"])[0, 0].tolist() == [*GREEN, 255]
    assert np.asarray(rgba["clear_palette"])[0, 0, 3] == 0


def test_as_is_changes_nothing(kinds: dict[str, Path]) -> None:
    modes = {kind: ImageReader("as_is")(str(path)).mode for kind, path in kinds.items()}
    assert modes["palette"] == "P"
    assert modes["one_bit"] == "1"
    assert modes["cmyk.tif"] == "CMYK"
    assert modes["sixteen"] == "I;16"
    assert modes["real.tif"] == "F"
    assert ImageReader("as_is")(str(kinds["turned"])).size == (4, 2)


def test_a_photograph_is_turned_as_its_camera_says(kinds: dict[str, Path]) -> None:
    image = np.asarray(ImageReader("rgb")(str(kinds["turned"])))
    assert image.shape == (4, 2, 3)
    assert (image[:2] == RED).all()
    assert (image[2:] == 0).all()


def test_sixteen_bits_are_scaled_and_not_cut_off(tmp_path: Path) -> None:
    from PIL import Image

    ramp = np.linspace(0, 65535, 256).round().astype(np.uint16).reshape(1, 256)
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    assert np.asarray(ImageReader("gray")(str(tmp_path / "ramp.png"))).reshape(-1).tolist() == list(range(256))


def test_pixels_whose_range_nobody_knows_are_refused_with_a_way_out(kinds: dict[str, Path]) -> None:
    with pytest.raises(UnreadableFile, match="use mode: as_is") as caught:
        ImageReader("rgb")(str(kinds["real.tif"]))
    assert str(kinds["real.tif"]) in str(caught.value)


def test_a_corrupt_file_raises_one_line_with_its_path(tmp_path: Path) -> None:
    for mode in ("rgb", "as_is"):
        for path in write_corrupt(tmp_path / mode).values():
            with pytest.raises(UnreadableFile) as caught:
                ImageReader(mode)(str(path))  # type: ignore[arg-type]
            assert str(caught.value).startswith(f"{path}: ")
            assert "\n" not in str(caught.value)
            assert pickle.loads(pickle.dumps(caught.value)).why == caught.value.why


def test_a_corrupt_file_ends_the_run_or_is_passed_over_as_the_config_says(tmp_path: Path) -> None:
    write_folder(tmp_path, per_class=4)
    broken = tmp_path / "bees" / "1.png"
    broken.write_bytes(broken.read_bytes()[:60])
    images = Transformed(image_folder(str(tmp_path)))
    plan = BatchPlan(8, 8, 1, seed=0)
    with pytest.raises(
        TrainingError, match=r"data set ImageFolder: sample 5 \(.*bees/1.png\) cannot be read: image file is truncated$"
    ) as caught:
        next(TrainLoader(images, plan).epoch(0))
    assert "\n" not in str(caught.value)
    bad = BadSamples(3)
    inputs, targets = next(TrainLoader(images, plan, bad=bad).epoch(0))[0]
    assert inputs.shape == (8, 3, 10, 12)
    assert sorted(targets.tolist()) == [0] * 4 + [1] * 4
    assert list(bad.found) == [(0, 5)]


def test_a_folder_is_read_alike_in_loader_workers(tmp_path: Path) -> None:
    images = Transformed(image_folder(str(write_folder(tmp_path)), mode="gray"))
    assert images.classes == ["ants", "bees"]
    plan = BatchPlan(12, 4, 1, seed=1)
    here, there = ([step[0][0] for step in TrainLoader(images, plan, loader_workers=workers).epoch(0)] for workers in (0, 2))
    assert here[0].shape == (4, 1, 10, 12)
    assert all(np.array_equal(a, b) for a, b in zip(here, there, strict=True))


def test_wrong_arguments_are_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "flat.png").write_bytes(b"")
    write_folder(tmp_path / "holed")
    (tmp_path / "holed" / "wasps").mkdir()
    for arguments, said in (
        ({"root": str(tmp_path / "none")}, "no such folder; name one that holds a folder of images a class"),
        ({"root": str(tmp_path / "empty")}, "expected one folder of images a class"),
        ({"root": str(tmp_path / "flat.png")}, "no such folder; name one that holds a folder of images a class"),
        ({"root": str(tmp_path / "holed")}, "wasps"),
        ({"root": str(tmp_path), "mode": "grey"}, "there is no mode 'grey'; use rgb, gray, rgba or as_is"),
        ({"root": str(tmp_path), "background": [0, 300, 0]}, "is no colour"),
    ):
        with pytest.raises(TrainingError, match=said) as caught:
            image_folder(**arguments)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
