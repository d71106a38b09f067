"""What a first config says follows from facts alone; and what it says is a config, whatever the classes and files are called."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples.shapes import write_pictures
from launcher.folder_layout import find_parts
from launcher.init import init
from launcher.look_at_folder import look_at
from launcher.starter import Subject, batch_size, class_weights, decide, of_set
from launcher.starter_sets import SETS, known
from launcher.starter_yaml import text
from tests.support.image_files import write_corrupt, write_kinds
from trainer.config.load import load
from trainer.config.schema import Config
from trainer.config.targets import check_targets
from trainer.errors import ConfigError

PHOTOGRAPH, ICON = (640, 480), (40, 40)


def subject(per_class: int = 100, size: tuple[int, int] = PHOTOGRAPH, **other: object) -> Subject:
    facts: dict[str, object] = {
        "name": "photos",
        "parts": {"train": {"target": "image_folder", "root": "photos"}},
        "counts": {"cats": per_class, "dogs": per_class},
        "n_valid": None,
        "sizes": {size: per_class, (size[0] - 1, size[1]): per_class},
        "gray": False,
        "mean": (0.5, 0.4, 0.3),
        "std": (0.2, 0.2, 0.2),
        "own": True,
    }
    return Subject(**{**facts, **other})  # type: ignore[arg-type]


def read(folder: Path, written: str) -> Config:
    (folder / "first.yaml").write_text(written, encoding="utf-8")
    loaded = load(folder / "first.yaml")
    check_targets(loaded)
    return loaded.config


def files(root: Path, *names: str) -> Path:
    """Empty files; nothing is decoded where only the layout is looked at."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.mark.parametrize("training", [2, 3, 5, 8, 20, 63, 64, 400, 5000, 10**6])
def test_a_batch_holds_two_or_more_and_leaves_updates_in_each_epoch(training: int) -> None:
    size = batch_size(training)
    assert size & (size - 1) == 0
    assert 2 <= size <= 128
    assert size * 3 <= training or size == 2


def test_small_pictures_of_one_size_stay_as_they_are_and_others_are_brought_to_one() -> None:
    same = decide(subject(sizes={(40, 28): 9}), weights_at_hand=False)
    assert (same.size, same.resize) == ((28, 40), False)
    assert decide(subject(size=ICON), weights_at_hand=False).size == (32, 32)
    assert decide(subject(), weights_at_hand=False).size == (64, 64)
    assert decide(subject(per_class=2000), weights_at_hand=False).size == (128, 128)


def test_few_pictures_get_a_small_model_and_many_large_ones_a_large_one() -> None:
    assert decide(subject(), weights_at_hand=False).model == {"target": "cnn", "in_channels": 3, "num_classes": 2, "width": 32}
    assert decide(subject(per_class=2000), weights_at_hand=False).model == {"target": "resnet18", "num_classes": 2}


def test_weights_are_used_where_they_are_at_hand_and_the_pictures_large_enough() -> None:
    assert decide(subject(), weights_at_hand=True).pretrained
    assert decide(subject(), weights_at_hand=False).pretrained is None
    assert decide(subject(size=ICON), weights_at_hand=True).pretrained is None


def test_only_without_a_validation_set_is_a_share_set_aside() -> None:
    assert decide(subject(), weights_at_hand=False).valid_fraction == 0.2
    assert decide(subject(per_class=9000), weights_at_hand=False).valid_fraction == 0.1
    assert decide(subject(n_valid=50), weights_at_hand=False).valid_fraction is None


def test_grey_pictures_go_through_one_channel_or_three_alike() -> None:
    grey = {"gray": True, "mean": (0.5,), "std": (0.2,)}
    assert decide(subject(**grey), weights_at_hand=False).model["in_channels"] == 1
    assert decide(subject(per_class=2000, **grey), weights_at_hand=False).mean == (0.5, 0.5, 0.5)


def test_uneven_classes_get_weights_that_make_them_count_alike() -> None:
    assert class_weights({"a": 10, "b": 29}) == ()
    counts = {"b": 30, "a": 10}
    weights = class_weights(counts)
    assert [weight * counts[name] for weight, name in zip(weights, sorted(counts), strict=True)] == pytest.approx([20, 20], abs=0.1)


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"per_class": 2000},
        {"size": ICON},
        {"gray": True, "mean": (0.5,), "std": (0.2,), "mirror": False},
        {"gray": True, "mean": (0.5,), "std": (0.2,), "per_class": 2000},
        {"bad": 3},
        {"counts": {"a": 90, "b": 4}},
        {"n_valid": 9, "parts": {part: {"target": "image_folder", "root": part} for part in ("train", "valid", "test")}},
    ],
    ids=str,
)
@pytest.mark.parametrize("at_hand", [False, True])
def test_every_choice_is_a_config_that_can_be_run(facts: dict[str, object], at_hand: bool, tmp_path: Path) -> None:
    about = subject(**facts)  # type: ignore[arg-type]
    config = read(tmp_path, text(about, decide(about, weights_at_hand=at_hand), asked="photos", path="first.yaml"))
    assert config.run.name == "photos"
    assert (config.start.pretrained is not None) <= at_hand
    assert config.data.bad_samples == ("skip" if about.bad else "fail")


@pytest.mark.parametrize("facts", [{}, {"gray": True, "mean": (0.5,), "std": (0.2,)}], ids=["colour", "grey"])
def test_the_command_for_pretrained_weights_that_a_comment_shows_is_one(facts: dict[str, object], tmp_path: Path) -> None:
    about = subject(**facts)  # type: ignore[arg-type]
    written = text(about, decide(about, weights_at_hand=False), asked="photos", path="first.yaml")
    words = shlex.split(next(line for line in written.splitlines() if "pretrained=" in line).removeprefix("#"))
    assert words[:3] == ["ostinato", "train", "first.yaml"]
    (tmp_path / "first.yaml").write_text(written)
    loaded = load(tmp_path / "first.yaml", words[3:])
    check_targets(loaded)
    assert loaded.config.start.pretrained == "IMAGENET1K_V1"
    assert loaded.config.data.train.arguments.get("mode", "rgb") == "rgb"


def test_the_weights_that_a_comment_shows_can_be_taken_out_of_it(tmp_path: Path) -> None:
    about = subject(counts={"a": 90, "b": 4})
    written = text(about, decide(about, weights_at_hand=False), asked="photos", path="first.yaml").replace("# loss:", "loss:")
    assert read(tmp_path, written).loss.arguments["weight"] == [0.522, 11.75]


@settings(max_examples=60, deadline=None)
@given(names=st.lists(st.text(min_size=1, max_size=30), min_size=2, max_size=4, unique=True), root=st.text(min_size=1, max_size=30))
def test_no_name_of_a_class_or_folder_breaks_the_file(names: list[str], root: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    if any("\ud800" <= letter <= "\udfff" or letter == "\0" for letter in root):
        return
    parts = {"train": {"target": "image_folder", "root": root}}
    about = subject(counts=dict.fromkeys(names, 50), parts=parts)
    written = text(about, decide(about, weights_at_hand=False), asked=root, path="first.yaml")
    config = read(tmp_path_factory.mktemp("names"), written)
    assert config.data.train.arguments["root"] == root
    assert config.model.arguments["num_classes"] == len(names)


@pytest.mark.parametrize("name", SETS)
def test_every_data_set_that_is_known_by_name_gets_a_config(name: str, tmp_path: Path) -> None:
    about = of_set(name, SETS[name])
    read(tmp_path, text(about, decide(about, weights_at_hand=False), asked=name, path=f"{name}.yaml"))


@pytest.mark.parametrize("written", ["CIFAR10", "cifar-10", "FashionMNIST", "Fashion-MNIST"])
def test_names_are_known_as_people_write_them(written: str) -> None:
    found = known(written)
    assert found is not None
    assert found.target in ("cifar10", "fashion_mnist")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("1.jpg", "2.jpg"), "2 pictures in one folder, and nothing says what they show; put them into one folder a class"),
        ((), "no folders of pictures in it"),
        (("cats/notes.txt",), "no pictures in cats"),
        (("cats/1.jpg",), "one class only, cats; a classifier needs two folders"),
        (("all/cats/1.jpg", "all/dogs/1.jpg"), "one class only, all; did you mean {0}/all"),
        (("cats/1.jpg", "dogs/readme"), "dogs: holds no picture"),
        (("cats/1.jpg", "dogs/1.jpg", ".cache/1.jpg"), ".cache: is hidden, and each folder is a class"),
        (("pets/cats/1.jpg", "pets/dogs/1.jpg", "notes/a.txt"), "did you mean {0}/pets?"),
        (("train/cats/1.jpg", "train/dogs/1.jpg", "val/cats/1.jpg"), "val: there is no folder dogs, which {0}/train has"),
        (("train/1.jpg", "val/1.jpg"), "train: 1 pictures in one folder"),
        (("val/cats/1.jpg", "test/cats/1.jpg"), "there is test and val, and no train"),
    ],
)
def test_a_folder_that_is_laid_out_in_another_way_is_one_line_that_says_what_to_do(
    names: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as refused:
        find_parts(str(files(tmp_path, *names)))
    assert said.format(tmp_path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_parts_and_classes_of_a_folder_are_found(tmp_path: Path) -> None:
    root = files(tmp_path, "train/b/1.PNG", "train/a/deep/2.jpg", "Val/a/3.jpg", "Val/b/4.jpg", "test/5.jpg", "raw/6.jpg")
    parts, notes = find_parts(str(root))
    assert {part: found.counts for part, found in parts.items()} == {"train": {"a": 1, "b": 1}, "valid": {"a": 1, "b": 1}}
    assert [note.split(":")[0] for note in notes] == ["passed over, beside train", "passed over"]


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    parts, _ = find_parts(str(files(tmp_path, "train/1.jpg", "car/1.jpg", "bus/1.jpg")))
    assert list(parts["train"].files) == ["bus", "car", "train"]


def test_colours_sizes_and_torn_files_are_those_of_the_pictures(tmp_path: Path) -> None:
    write_kinds(tmp_path / "kinds")
    bad = write_corrupt(tmp_path / "torn")
    write_pictures(tmp_path, per_class=2)
    seen = look_at(str(tmp_path))
    assert {Path(path).name for path in seen.bad} == {*bad, "real.tif"}
    assert not seen.gray
    assert seen.sizes[(4, 2)] > 5
    assert seen.sizes[(2, 4)] == 1  # turned, as its EXIF data say
    assert seen.modes["CMYK"] == 2


def test_means_are_those_of_the_training_pictures_alone(tmp_path: Path) -> None:
    from PIL import Image

    for part, level in {"train": 51, "val": 255}.items():
        for name in "ab":
            (tmp_path / part / name).mkdir(parents=True)
            Image.new("RGB", (5, 4), (level, level, level)).save(tmp_path / part / name / "1.png")
    seen = look_at(str(tmp_path))
    assert (seen.mean, seen.std, seen.gray) == ((0.2, 0.2, 0.2), (0.01, 0.01, 0.01), True)


def test_a_file_that_is_there_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits.yaml").write_text("mine")
    with pytest.raises(ConfigError, match=r"^digits\.yaml: is there already, and init overwrites nothing"):
        init("digits")
    assert (tmp_path / "digits.yaml").read_text() == "mine"


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("digts", "no such folder, and no data set's name (did you mean 'digits'?)"),
        ("image_folder", "a kind of data, not the data"),
        ("table.csv", "a table; configs/regression.yaml is one to begin with"),
    ],
)
def test_what_is_neither_a_folder_nor_a_name_is_told_what_would_be(
    what: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "table.csv").touch()
    with pytest.raises(ConfigError, match=re.escape(said)):
        init(what)
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]
