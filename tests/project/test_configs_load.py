"""Every config that we ship is one that a person can start."""

import re
from pathlib import Path

import pytest

from trainer.config.load import dump, load
from trainer.config.targets import check_targets

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))

each = pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)


def test_there_are_configs() -> None:
    images = {"digits", "mnist", "fashion_mnist", "cifar10", "cifar10_fast", "fake", "imagenet", "finetune"}
    others = {"regression", "text_bow", "char_lm", "user_model"}
    assert images | others <= {path.stem for path in CONFIGS}


@each
def test_it_loads_and_all_its_targets_take_their_arguments(path: Path) -> None:
    loaded = load(path)
    check_targets(loaded)
    assert loaded.config.run.name == path.stem


@each
def test_what_is_dumped_loads_as_the_same_config(path: Path, tmp_path: Path) -> None:
    config = load(path).config
    again = tmp_path / "config.yaml"
    again.write_text(dump(config), encoding="utf-8")
    assert load(again).config == config


@each
def test_the_commands_in_its_head_name_the_file_and_only_overrides_that_load(path: Path) -> None:
    head = path.read_text(encoding="utf-8").split("\n\n", 1)[0]
    commands = re.findall(r"^# +ostinato train (\S+)(.*?)(?:  +#.*)?$", head, flags=re.MULTILINE)
    assert commands
    for named, rest in commands:
        assert ROOT / named == path
        check_targets(load(path, [word for word in rest.split() if "=" in word]))


@each
def test_the_files_of_ours_that_it_names_are_there(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for name in {*re.findall(r"examples/[\w.]*\w", text), *(f"examples/{name}.py" for name in re.findall(r"examples\.(\w+)", text))}:
        assert (ROOT / name).is_file(), name


@each
def test_one_to_eight_workers_divide_its_batch(path: Path) -> None:
    assert load(path).config.data.batch_size % 8 == 0
