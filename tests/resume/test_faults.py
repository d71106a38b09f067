"""What a person reads when training cannot go on: the cause, once, with the documented exit code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.jobs import DIGITS, LIMIT_S, ostinato, start

CONFIG = """
model: {{target: "tests.support.noisy:{model}"}}
data:
  train: {{target: "tests.support.noisy:NoisyImages"}}
  valid: {{target: "tests.support.noisy:NoisyImages", size: 20}}
  batch_size: 24
optimizer: {{target: sgd, lr: {lr}}}
train: {{epochs: 3}}
log: {{every_steps: 2}}
"""


def run(folder: Path, workers: int, model: str, lr: float = 0.1, *overrides: str) -> tuple[int, str]:
    (folder / "c.yaml").write_text(CONFIG.format(model=model, lr=lr))
    done = ostinato(folder, "train", "c.yaml", *overrides, "--nproc-per-node", str(workers))
    return done.returncode, done.stderr


def test_an_operation_that_cannot_be_repeated_is_named_before_the_first_epoch(tmp_path: Path) -> None:
    code, text = run(tmp_path, 2, "Unrepeatable")
    assert code == 4
    assert "put_ has no deterministic implementation" in text
    assert "hardware.deterministic=false" in text
    assert "Traceback" not in text
    assert not (tmp_path / "runs" / "c" / "metrics.jsonl").exists()


def test_the_same_model_trains_when_the_promise_is_given_up(tmp_path: Path) -> None:
    code, text = run(tmp_path, 1, "Unrepeatable", 0.1, "hardware.deterministic=false", "train.epochs=1")
    assert code == 0, text


def test_a_loss_that_is_not_finite_ends_the_run_with_the_step_and_what_to_do(tmp_path: Path) -> None:
    code, text = run(tmp_path, 2, "Exploding")
    assert code == 4
    assert re.search(r"step 1: the training loss on rank [01] is not finite", text), text
    assert "optimizer.lr" in text
    assert "Traceback" not in text


@pytest.mark.parametrize("workers", [1, 2])
def test_a_mistake_in_a_users_model_is_told_once_with_its_own_line(tmp_path: Path, workers: int) -> None:
    code, text = run(tmp_path, workers, "Clumsy")
    assert code == 4
    assert text.count("IndexError") == 1, text
    assert "noisy.py" in text
    assert "ChildFailedError" not in text
    assert len(text.splitlines()) <= 15, text


def test_a_folder_for_temporary_files_that_no_socket_can_lie_in_is_said_in_one_line(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 90)
    deep.mkdir()
    process = start(tmp_path, "train", str(DIGITS), TMPDIR=str(deep))
    said = process.communicate(timeout=LIMIT_S)[1]
    assert process.returncode == 2
    assert said.splitlines() == [f"ostinato: TMPDIR={deep}: too long a path for a socket in it; set it to a shorter one"]
    assert not (tmp_path / "runs").exists()
