"""Configs of several kinds of data and models keep their bits on one worker and on two, and through a kill: ``ostinato verify`` says so."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.support.command import ostinato
from tests.support.jobs import ROOT

SMALL = ("data.batch_size=8", "data.eval_batch_size=64", "train.epochs=1", "hardware.device=cpu", "hardware.threads=1")
OPTIONS = ("--world-sizes", "1,2", "--kills", "1", "--steps", "24", "--json")
CONFIGS = {
    "digits": ("data.train.split=valid",),
    "regression": (),
    "text_bow": (),
    "char_lm": ("data.train.stride=48",),
    "user_model": ("data.train.points=24", "data.valid.points=5"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_the_bits_are_identical_on_one_worker_and_on_two_and_through_a_kill(tmp_path: Path, name: str) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    if name == "regression":
        from examples.diabetes import write

        write(tmp_path / "data")
    config = str(ROOT / "configs" / f"{name}.yaml")
    done = ostinato("verify", config, *SMALL, *CONFIGS[name], *OPTIONS, cwd=tmp_path, timeout=280)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["identical"], found["verdict"]) == (True, ["identical"])
    assert [len(trial["killed"]) for trial in found["trials"]] == [0, 0, 1]
    assert len({trial["state"] for trial in found["trials"]}) == 1
