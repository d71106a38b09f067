"""A config gives the loss curve of the PyTorch script that one would write by hand for the same recipe, given the same order of samples."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.cifar_files import write_cifar10
from tests.support.config_data import ROOT, go_on_in
from tests.support.ranks import run_ranks
from trainer.build import make
from trainer.config.load import load
from trainer.config.schema import Config
from trainer.data.keys import sample_keys
from trainer.data.order import BatchPlan, permute
from trainer.seed import WEIGHTS, mix, seed_everything

STEPS = 100
MACHINE = ("hardware.device=cpu", "hardware.threads=1", "log.every_steps=1", "log.tensorboard=false")
CIFAR_BATCH, CIFAR_PIXELS = 4, 16  # a quarter of the image: a sixteenth of the time, with the batch


def ours(folder: Path, config: Config) -> list[float]:
    """The losses of the first updates, as the run's metrics have them."""
    (result,) = run_ranks(go_on_in, 1, folder, config, str(folder / "run"), STEPS)
    return [row["loss"] for row in result.rows if row["split"] == "train"][:STEPS]


def theirs(script: str, folder: Path, job: dict[str, Any]) -> list[float]:
    """What the script prints, in a process that cannot import this repository by its path."""
    (folder / "job.json").write_text(json.dumps(job))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, str(ROOT / "tests" / "support" / script), "job.json"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


def batches(plan: BatchPlan) -> list[tuple[int, np.ndarray]]:
    """The epoch and the sample numbers of each of the first updates."""
    places = [divmod(step, plan.steps_per_epoch) for step in range(STEPS)]
    return [(epoch, plan.batch(epoch, step)) for epoch, step in places]


def digits(folder: Path, parts: int, *overrides: str) -> tuple[list[float], list[float]]:
    """Both loss curves of the digits recipe; `parts` micro-batches are accumulated."""
    config = load(ROOT / "configs" / "digits.yaml", [*MACHINE, f"train.virtual_ranks={parts}", *overrides]).config
    # Which rows of the table are the training set: as the data set's own docstring says, what is left of a permutation.
    table = 1797
    rows = permute(np.arange(table), table, 0, 0)[2 * round(0.15 * table) :]
    plan = BatchPlan(len(rows), config.data.batch_size, parts, config.seed)
    job = {
        "batches": [rows[indices].tolist() for _, indices in batches(plan)],
        "seed": mix(WEIGHTS, config.seed) & (1 << 63) - 1,
        "parts": parts,
        "one_cycle": config.train.epochs * plan.steps_per_epoch if config.schedule.target == "one_cycle" else 0,
    }
    return ours(folder, config), theirs("plain_digits.py", folder, job)


def cifar(folder: Path, schedule: str) -> tuple[list[float], list[float]]:
    """Both loss curves of the CIFAR recipe, on made-up images in CIFAR-10's format."""
    write_cifar10(folder / "data", per_batch=20)
    small = (f"data.batch_size={CIFAR_BATCH}", f"data.train_transforms.0.size={CIFAR_PIXELS}", "data.loader_workers=0", "train.epochs=5")
    config = load(ROOT / "configs" / "cifar10.yaml", [*MACHINE, *small, "train.virtual_ranks=1", f"schedule.target={schedule}"]).config
    seed_everything(mix(WEIGHTS, config.seed))
    torch.save(make("model", config.model).state_dict(), folder / "first.pt")
    plan = BatchPlan(100, CIFAR_BATCH, 1, config.seed)
    job = {
        "data": "data/cifar-10-batches-py",
        "weights": "first.pt",
        "size": CIFAR_PIXELS,
        "cosine": config.train.epochs * plan.steps_per_epoch if schedule == "cosine" else 0,
        "batches": [
            {"images": indices.tolist(), "seed": int(sample_keys(indices[:1], config.seed, epoch)[0]) & 0xFFFFFFFF}
            for epoch, indices in batches(plan)
        ],
    }
    return ours(folder, config), theirs("plain_cifar.py", folder, job)


@pytest.mark.parametrize("parts", [1, 2])
def test_digits_with_a_constant_rate_has_the_bits_of_the_script_also_when_gradients_are_accumulated(tmp_path: Path, parts: int) -> None:
    mine, plain = digits(tmp_path, parts, "schedule.target=constant")
    assert len(mine) == STEPS
    assert mine[-1] < 0.2 * mine[0]
    assert mine == plain


def test_control_four_parts_that_the_script_adds_in_another_order_show_at_once(tmp_path: Path) -> None:
    mine, plain = digits(tmp_path, 4, "schedule.target=constant")  # a run adds (a + b) + (c + d), the script ((a + b) + c) + d
    assert np.allclose(mine[:10], plain[:10], rtol=1e-5, atol=1e-5)
    assert mine != plain


def test_digits_as_it_stands_has_the_curve_of_the_script_with_torchs_one_cycle(tmp_path: Path) -> None:
    mine, plain = digits(tmp_path, 1)
    assert len(mine) == STEPS
    assert np.allclose(mine, plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_cifar10_has_the_curve_of_the_script_with_its_crops_and_mirror_images(tmp_path: Path, schedule: str) -> None:
    mine, plain = cifar(tmp_path, schedule)
    assert len(mine) == STEPS
    if schedule == "constant":
        assert mine == plain
    else:
        assert np.allclose(mine, plain, rtol=1e-5, atol=1e-5)
