"""`ostinato export` writes files that give the run's outputs elsewhere, without ostinato, or it writes nothing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.jobs import LIMIT_S, environment, ostinato
from tests.using.runs import DIGITS, trained, written
from trainer.data.datasets import Digits
from trainer.errors import RunFolderError
from trainer.export import _Room
from trainer.finished import open_run
from trainer.rundir import RunDir

# Runs a line beside load.py in a python in which neither ostinato nor anything of this repository can be imported.
ELSEWHERE = """
import sys
sys.path[:] = [entry for entry in sys.path if entry and entry != {root!r}]
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("trainer", "launcher", "tests", "ostinato"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refuse())
sys.path.insert(0, ".")
import torch
torch.set_num_threads(1)
from load import CLASSES, load
inputs = torch.load("inputs.pt")
with torch.no_grad():
    torch.save((CLASSES, load()(inputs)), "outputs.pt")
"""


def elsewhere(folder: Path, inputs: torch.Tensor) -> tuple[list[str] | None, torch.Tensor]:
    """The classes and outputs of a model that ``load.py`` loads where there is no ostinato."""
    torch.save(inputs, folder / "inputs.pt")
    root = str(Path(__file__).resolve().parents[2])
    command = [sys.executable, "-I", "-c", ELSEWHERE.format(root=root)]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, done.stderr
    classes, outputs = torch.load(folder / "outputs.pt")
    return classes, outputs


@pytest.fixture(scope="module")
def exported(digits: RunDir, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits in all formats."""
    folder = tmp_path_factory.mktemp("exported")
    before = written(digits)
    done = ostinato(digits.path.parents[1], "export", "runs/digits", "--format", "all", "--output", str(folder / "model"), "--json")
    assert done.returncode == 0, done.stderr
    assert written(digits) == before
    (folder / "said.json").write_text(done.stdout)
    return folder / "model"


@pytest.fixture(scope="module")
def batch() -> torch.Tensor:
    return Digits("test").inputs[:11]


@pytest.fixture(scope="module")
def expected(digits: RunDir, batch: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        outputs: torch.Tensor = open_run(str(digits.path)).model(batch)
    return outputs


def test_each_format_is_compared_with_the_runs_model_on_samples_of_its_data(exported: Path) -> None:
    said = json.loads((exported.parent / "said.json").read_text())
    assert [one["format"] for one in said["exported"]] == ["safetensors", "torch", "onnx"]
    assert all(one["difference"] < 1e-5 for one in said["exported"])
    assert {one["samples"] for one in said["exported"]} == {"8 samples of the test set"}
    assert sorted(path.name for path in exported.iterdir()) == sorted(name for one in said["exported"] for name in one["files"])


def test_the_weights_load_where_there_is_no_ostinato(exported: Path, batch: torch.Tensor, expected: torch.Tensor) -> None:
    classes, outputs = elsewhere(exported, batch)
    assert classes == [str(digit) for digit in range(10)]
    torch.testing.assert_close(outputs, expected, rtol=0, atol=1e-6)
    about = json.loads((exported / "model.json").read_text())
    assert (about["averaged"], about["inputs"]["shape"], about["task"]) == (True, [1, 8, 8], "Classification")


def test_the_program_and_onnx_take_batches_of_other_sizes(exported: Path, batch: torch.Tensor, expected: torch.Tensor) -> None:
    import onnxruntime

    program = torch.export.load(exported / "model.pt2").module()
    session = onnxruntime.InferenceSession(str(exported / "model.onnx"), providers=["CPUExecutionProvider"])
    for count in (1, 11):
        with torch.no_grad():
            torch.testing.assert_close(program(batch[:count]), expected[:count], rtol=0, atol=1e-5)
        [outputs] = session.run(None, {"input": batch[:count].numpy()})
        np.testing.assert_allclose(outputs, expected[:count], atol=1e-5)
    assert json.loads(session.get_modelmeta().custom_metadata_map["classes"]) == [str(digit) for digit in range(10)]


def test_torchvisions_models_load_without_ostinato_with_the_stem_for_small_images(tmp_path: Path) -> None:
    images = {"target": "fake_data", "size": 16, "image_size": [3, 16, 16], "num_classes": 4}
    config: dict[str, Any] = {
        "model": {"target": "resnet18", "stem": "cifar", "num_classes": 4},
        "data": {"train": images, "batch_size": 8},
        "optimizer": {"target": "sgd", "lr": 0.01},
        "train": {"epochs": 1, "channels_last": True},
    }
    run = trained(tmp_path, "small", config)
    done = ostinato(tmp_path, "export", "runs/small")
    assert done.returncode == 0, done.stderr
    assert "largest difference 0 on 8 samples of the train set; load.py needs torch, torchvision and safetensors" in done.stdout
    [folder] = run.exports.iterdir()
    inputs = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    classes, outputs = elsewhere(folder, inputs)
    with torch.no_grad():
        torch.testing.assert_close(outputs, open_run(str(run.path)).model(inputs), rtol=0, atol=1e-5)
    assert classes == ["0", "1", "2", "3"]


def test_a_model_that_comes_out_different_leaves_nothing_and_ends_with_1(tmp_path: Path) -> None:
    trained(tmp_path, "fickle", {**DIGITS, "model": {"target": "tests.using.runs:Fickle"}})
    done = ostinato(tmp_path, "export", "runs/fickle", "--output", "some/where")
    assert done.returncode == 1
    assert "ostinato: --format=safetensors: its outputs differ by up to" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "some").exists()


def test_a_model_of_ones_own_says_what_it_needs_and_inputs_that_are_no_tensor_what_can_be_done(tmp_path: Path) -> None:
    data = {"train": {"target": "tests.using.runs:Pairs"}, "batch_size": 8}
    model, optimizer = {"target": "tests.using.runs:Sum"}, {"target": "sgd", "lr": 0.1}
    trained(tmp_path, "pairs", {"model": model, "data": data, "optimizer": optimizer, "train": {"epochs": 1}})
    done = ostinato(tmp_path, "export", "runs/pairs", "--output", "out")
    assert done.returncode == 0, done.stderr
    assert "load.py needs torch, safetensors and the module tests.using.runs" in done.stdout
    done = ostinato(tmp_path, "export", "runs/pairs", "--format", "torch", "--output", "other")
    assert (done.returncode, (tmp_path / "other").exists()) == (4, False)
    assert done.stderr == "ostinato: the model takes a dict, and not one tensor; only --format=safetensors can be exported\n"


def test_data_that_are_gone_are_replaced_by_made_up_samples_and_that_is_said(tmp_path: Path) -> None:
    from tests.support.image_files import write_folder

    write_folder(tmp_path / "photos")
    data = {"train": {"target": "image_folder", "root": "photos"}, "batch_size": 4}
    model = {"target": "cnn", "in_channels": 3, "num_classes": 2, "width": 4}
    trained(tmp_path, "photos", {"model": model, "data": data, "optimizer": {"target": "sgd", "lr": 0.1}, "train": {"epochs": 1}})
    (tmp_path / "photos").rename(tmp_path / "elsewhere")
    done = ostinato(tmp_path, "export", "runs/photos", "--output", "out")
    assert done.returncode == 0, done.stderr
    assert "largest difference 0 on 8 made-up samples, as the run's data are not here" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--format", "tflite"), "command line: --format=tflite: must be safetensors, torch, onnx or all"),
        (("--output", "digits.yaml/model"), "cannot be written (Not a directory); name another folder (--output)"),
        (("--checkpoint", "none"), "no checkpoint 'none' here"),
    ],
)
def test_what_cannot_be_done_is_one_line(here: Path, arguments: tuple[str, ...], words: str) -> None:
    done = ostinato(here, "export", "runs/digits", *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_file_that_is_there_is_left_alone(digits: RunDir, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("mine")
    done = ostinato(digits.path.parents[1], "export", "runs/digits", "--output", str(tmp_path))
    assert done.returncode == 2
    assert "config.yaml: there already, and left alone; name another folder (--output)" in done.stderr
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("config.yaml", "mine")]


def test_a_run_that_is_moved_away_while_files_are_made_is_told_in_one_line(tmp_path: Path) -> None:
    target = tmp_path / "run" / "exports" / "last"
    target.mkdir(parents=True)
    with (
        pytest.raises(RunFolderError, match=rf"^{re.escape(str(target))}: was moved away while files were made in it"),
        _Room(target) as room,
    ):
        (tmp_path / "run").rename(tmp_path / "run.1")
        (room.path / "model.safetensors").write_bytes(b"")
