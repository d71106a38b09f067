"""`ostinato inspect` tells a run from `data CONFIG`; `inspect data` and `summary` work through the real command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.support.command import ostinato
from tests.support.image_files import write_folder

CONFIG = """
model: {target: mlp, in_features: 64, num_classes: 10}
data: {train: {target: digits}, valid_fraction: 0.2, batch_size: 64}
optimizer: {target: sgd, lr: 0.1}
train: {epochs: 1, early_stop: {patience: 1}, monitor: f1}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "small.yaml").write_text(CONFIG)
    return tmp_path


def test_inspect_data_tells_of_each_split_with_overrides(folder: Path) -> None:
    done = ostinato("inspect", "data", "small.yaml", "data.valid_fraction=0.5", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {split: facts["samples"] for split, facts in found["splits"].items()} == {"train": 629, "valid": 628}
    assert sorted(path.name for path in folder.iterdir()) == ["small-data.png", "small.yaml"]


def test_inspect_data_puts_the_picture_where_tensorboard_finds_it(folder: Path) -> None:
    write_folder(folder / "photos", per_class=4)
    options = ("data.train.target=image_folder", "data.train.root=photos", "--tensorboard", "look")
    done = ostinato("inspect", "data", "small.yaml", *options, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == ["small-data.png", "look"]
    assert EventAccumulator(str(folder / "look")).Reload().Tags()["images"] == ["data/train"]


def test_summary_counts_the_parameters_and_creates_nothing(folder: Path) -> None:
    done = ostinato("summary", "small.yaml", "model.hidden=8", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["parameters"] == 64 * 8 + 8 + 8 * 10 + 10
    assert [path.name for path in folder.iterdir()] == ["small.yaml"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["data", "small.yaml", "--checkpoint", "best"], "--checkpoint: it belongs to a run"),
        (["runs/a", "--tensorboard", "look"], "--tensorboard: it belongs to 'inspect data CONFIG'"),
        (["data", "none.yaml"], "none.yaml"),
        (["data", "small.yaml", "modle.x=1"], "did you mean 'model'?"),
        (["runs/a", "runs/b"], "runs/b: one run at a time"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(folder: Path, arguments: list[str], said: str) -> None:
    done = ostinato("inspect", *arguments, cwd=folder)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("command", "example"), [("inspect", "inspect data configs/digits.yaml"), ("summary", "summary configs/digits.yaml")]
)
def test_the_help_shows_examples(folder: Path, command: str, example: str) -> None:
    done = ostinato(command, "--help", cwd=folder)
    assert f"\n    ostinato {example}\n" in done.stdout
