"""`ostinato summary` tells of the config's model and data, and creates nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launcher.summary import shape, summary
from trainer.errors import DONE, ConfigError, TrainingError

CONFIG = """
model: {target: cnn, in_channels: 1, num_classes: 10, width: 4}
freeze: [{match: "features.*", until_epoch: 1}]
data:
  train: {target: digits, split: train}
  batch_size: 16
optimizer: {target: sgd, lr: 0.1}
train: {epochs: 2}
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(CONFIG)
    return "small.yaml"


def test_it_says_what_the_layers_are_for_a_batch_of_the_data_set(config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert summary(config, [], as_json=False) == DONE
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["layer", "kind", "input", "output", "parameters", "trains", "MACs"]
    rows = {line.split()[0]: line.split()[1:] for line in lines[1 : lines.index("")]}
    assert rows["features.0.0"] == ["Conv2d", "16×1×8×8", "16×4×8×8", "36", "no", f"{16 * 64 * 36:,}"]
    assert rows["head.1"] == ["Linear", "16×8", "16×10", "90", "yes", f"{16 * 80:,}"]
    assert lines[-3:-1] == ["one batch: 16×1×8×8 -> 16×10", "parameters: 1,182 (90 trainable, 1,092 frozen)"]
    assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]


def test_json_says_the_same_and_overrides_count(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert summary(config, ["data.batch_size=3", "freeze=[]"], as_json=True) == DONE
    found = json.loads(capsys.readouterr().out)
    assert (found["input"], found["output"]) == ([3, 1, 8, 8], [3, 10])
    assert found["parameters"] == found["trainable"] == 1182
    assert [layer["name"] for layer in found["layers"] if layer["depth"] == 1] == ["features", "head"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.in_channels=3", r"^model: it cannot take the data set's inputs of shape \[16, 1, 8, 8\]: "),
        ("freeze.0.match=haed", r"^freeze\.0\.match: 'haed' is the name of no parameter \(did you mean 'head'\?\)$"),
        ("model.widht=3", r"widht"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(config: str, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        summary(config, [override] if "freeze" not in override else ["freeze=[{match: haed}]"], as_json=False)


UNREADABLE = """
from torch import rand

class Images:
    targets = [0] * 40

    def __init__(self, readable_from):
        self.readable_from = readable_from

    def __len__(self):
        return 40

    def __getitem__(self, index):
        if index < self.readable_from:
            raise OSError(5, "Input/output error", f"{index}.png")
        return rand(1, 8, 8), 0
"""


def test_samples_that_cannot_be_read_are_passed_over_or_named(
    config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "unreadable_images.py").write_text(UNREADABLE)
    monkeypatch.syspath_prepend(tmp_path)
    skip = ["data.bad_samples=skip", "data.max_bad_samples=99"]
    first = "data.train={target: 'unreadable_images:Images', readable_from: 16}"
    assert summary(config, [first, *skip], as_json=True) == DONE
    assert json.loads(capsys.readouterr().out)["input"] == [16, 1, 8, 8]
    every = "data.train={target: 'unreadable_images:Images', readable_from: 40}"
    with pytest.raises(TrainingError, match=r"^data\.train: not one of its samples can be read; the first: .* 0 \(0\.png\)$"):
        summary(config, [every, *skip], as_json=False)
    with pytest.raises(TrainingError, match=r"sample 0 .*cannot be read"):
        summary(config, [every], as_json=False)


def test_shapes_of_several_inputs_are_told_each() -> None:
    assert shape({"text": [4, 7], "image": [4, 3, 8, 8]}) == "text: 4×7, image: 4×3×8×8"
    assert shape([[4, 7], [4]]) == "4×7, 4"
    assert shape([]) == "-"
