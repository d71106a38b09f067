"""`ostinato diff` finds a planted change, and the first step in which it shows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.support.jobs import ostinato, start
from trainer.rundir import append_jsonl

MODEL = """
import torch
from torch import nn


class Net(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
"""

DATA = """
from trainer.data.datasets import Digits


class Mine(Digits):
    def __init__(self) -> None:
        super().__init__("train")
"""

CONFIG = """
model: {target: "mymodel:Net"}
data: {train: {target: "mydata:Mine"}, batch_size: 32}
optimizer: {target: sgd, lr: 0.05}
train: {epochs: 1, max_steps: 6}
log: {every_steps: 1, fingerprint_every: 1}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a user's own, with one run in it."""
    path = tmp_path_factory.mktemp("mine")
    (path / "mymodel.py").write_text(MODEL)
    (path / "mydata.py").write_text(DATA)
    (path / "c.yaml").write_text(CONFIG)
    train(path, "a")
    return path


def train(folder: Path, name: str, *overrides: str) -> None:
    done = ostinato(folder, "c.yaml", f"run.name={name}", *overrides, module="trainer")
    assert done.returncode == 0, done.stderr


def diff(folder: Path, one: str, two: str) -> tuple[int, list[str]]:
    done = ostinato(folder, "diff", f"runs/{one}", f"runs/{two}")
    return done.returncode, done.stdout.splitlines()


def test_two_runs_of_one_config_do_not_differ(folder: Path) -> None:
    train(folder, "again")
    code, lines = diff(folder, "a", "again")
    assert code == 0
    assert lines[-1] == "no difference that matters (13 rows compared)"


def test_another_seed_is_found_and_shows_in_the_first_step(folder: Path) -> None:
    train(folder, "seed", "seed=1")
    code, lines = diff(folder, "a", "seed")
    assert code == 1
    assert "config: seed: 0 | 1" in lines
    assert any(line.startswith("step: step 1, train loss: ") for line in lines)


def test_a_change_that_acts_late_is_found_in_the_step_in_which_it_acts(folder: Path) -> None:
    train(folder, "late", "schedule={target: polynomial, power: 1.0}")
    code, lines = diff(folder, "a", "late")
    assert code == 1
    assert any(line.startswith("step: step 1, weights") or line.startswith("step: step 2, train") for line in lines), lines


def test_one_changed_line_of_a_model_is_found_by_its_file(folder: Path) -> None:
    (folder / "mymodel.py").write_text(MODEL.replace("nn.ReLU()", "nn.GELU()"))
    train(folder, "model")
    (folder / "mymodel.py").write_text(MODEL)
    code, lines = diff(folder, "a", "model")
    assert code == 1
    assert any(line.startswith("code: files.mymodel: ") for line in lines)
    assert any(line.startswith("step: step 1, train loss: ") for line in lines)


def test_one_changed_label_is_found_in_the_data_and_in_the_step_that_uses_it(folder: Path) -> None:
    (folder / "mydata.py").write_text(DATA + "        self.targets[self.first] = (self.targets[self.first] + 1) % 10\n    first = 0\n")
    from trainer.data.order import EpochOrder

    used = EpochOrder(1257, 0, 0).slice(0, 6 * 32).tolist()
    sample = used[3 * 32 + 5]  # step 4 is the first to see it
    (folder / "mydata.py").write_text((folder / "mydata.py").read_text().replace("first = 0", f"first = {sample}"))
    train(folder, "label")
    (folder / "mydata.py").write_text(DATA)
    code, lines = diff(folder, "a", "label")
    assert code == 1
    assert any(line.startswith("data: targets: ") for line in lines)
    assert any(line.startswith("step: step 4, train loss: ") for line in lines)


def test_another_package_version_in_the_record_is_found(folder: Path) -> None:
    train(folder, "version")
    path = folder / "runs" / "version" / "environment.json"
    record = json.loads(path.read_text())
    record[-1]["torch"] = "2.99.0"
    path.write_text(json.dumps(record))
    code, lines = diff(folder, "a", "version")
    assert code == 1
    assert any(line.startswith("environment: torch: ") and line.endswith("| 2.99.0") for line in lines)
    assert not any(line.startswith("step: ") for line in lines)


def test_two_runs_that_came_to_nan_in_the_same_step_do_not_differ(folder: Path) -> None:
    for name in ("nan", "nan-too"):
        shutil.copytree(folder / "runs" / "a", folder / "runs" / name)
        append_jsonl(folder / "runs" / name / "metrics.jsonl", {"step": 7, "split": "train", "loss": float("nan")})
    assert diff(folder, "nan", "nan-too") == (0, ["no difference that matters (14 rows compared)"])


def test_a_folder_that_is_no_run_is_refused_in_one_line(folder: Path) -> None:
    done = ostinato(folder, "diff", "runs/a", "runs")
    assert done.returncode == 2
    assert done.stderr == "ostinato: runs: no run here (it has no config.yaml)\n"


def test_the_differences_are_also_json(folder: Path) -> None:
    process = start(folder, "diff", "runs/a", "runs/a", "--json")
    out, _ = process.communicate(timeout=60)
    assert json.loads(out) == {"identical": True, "differences": []}
