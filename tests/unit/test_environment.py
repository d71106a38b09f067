"""What a run ran on: enough to tell why bits differ, and no secret."""

from __future__ import annotations

import json
import platform
import secrets
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from trainer import environment
from trainer.config.load import load
from trainer.distributed import World

CONFIG = """
model: {target: mlp, in_features: 64, hidden: [8], num_classes: 10}
data: {train: {target: digits, split: train}, batch_size: 64}
optimizer: {target: sgd, lr: 0.1}
train: {epochs: 1}
"""


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A record made while a secret and a harmless variable are set; the secret's value is under "canary"."""
    canary = secrets.token_hex(16)
    monkeypatch.setenv("SOME_API_TOKEN", canary)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    found = environment.record(load(path).config, World(0, 1, 0, 1, torch.device("cpu")))
    return {**found, "canary": canary}


def test_no_variable_outside_the_short_list_is_recorded(record: dict[str, Any]) -> None:
    canary = record.pop("canary")
    text = json.dumps(record)
    assert canary not in text
    assert "SOME_API_TOKEN" not in text
    assert record["variables"]["OMP_NUM_THREADS"] == "2"
    assert set(record["variables"]) <= {"CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "SLURM_JOB_ID"}


def test_the_command_line_is_recorded_without_its_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["ostinato", "train", "x.yaml", "logger.api_key=canary", "train.epochs=3"])
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    found = environment.record(load(path).config, World(0, 1, 0, 1, torch.device("cpu")))
    assert found["argv"] == ["ostinato", "train", "x.yaml", "logger.api_key=***", "train.epochs=3"]
    assert "canary" not in json.dumps(found["argv"])


def test_everything_that_can_change_bits_is_recorded(record: dict[str, Any]) -> None:
    assert set(environment.ARITHMETIC) <= set(record)
    assert (record["python"], record["torch"]) == (platform.python_version(), torch.__version__)
    assert record["device"] == environment.cpu_model()


@pytest.mark.parametrize("name", ["python", "torch", "numpy", "torchvision", "pillow", "device", "threads", "cpu_capability"])
def test_a_change_that_can_change_bits_is_told(record: dict[str, Any], name: str) -> None:
    assert environment.changes(record, {**record, name: "other"}) == [f"{name} {record[name]} → other"]


def test_a_change_that_cannot_change_bits_is_not_told(record: dict[str, Any]) -> None:
    now = {**record, "workers": 4, "host": "elsewhere", "argv": ["x"], "code": {"commit": "1"}, "cores": 99}
    assert environment.changes(record, now) == []


def test_the_cpu_is_told_by_its_name_and_by_its_architecture_where_it_has_none(tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text("processor\t: 0\nmodel\t\t: 1\nmodel name\t: Some CPU @ 3: fast\nprocessor\t: 1\nmodel name\t: Another\n")
    assert environment.cpu_model(path) == "Some CPU @ 3: fast"
    path.write_text("processor : 0\nCPU implementer : 0x41\n")
    assert environment.cpu_model(path) == platform.machine()
    assert environment.cpu_model(tmp_path / "nothing") == platform.machine()


def test_a_package_that_is_not_installed_is_recorded_as_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    assert environment._version("torchvision") is None


def test_an_edit_of_ostinatos_own_code_is_seen(tmp_path: Path, record: dict[str, Any]) -> None:
    package = tmp_path / "trainer"
    shutil.copytree(Path(environment.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    assert environment.own_code(package) == record["code"]["ostinato"]
    with open(package / "loop.py", "a") as file:
        file.write("# edited\n")
    assert environment.own_code(package) != record["code"]["ostinato"]
