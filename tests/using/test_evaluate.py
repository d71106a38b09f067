"""`ostinato evaluate` gives the numbers that the run itself gave, on any number of workers, and leaves the run as it is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics

from tests.support.image_files import write_folder
from tests.support.jobs import LIMIT_S, environment, ostinato, start, wait_for_step
from tests.using.runs import PRIME, trained, written
from trainer.checkpoint import store
from trainer.checkpoint.manifest import seal
from trainer.config.load import config_hash, load
from trainer.data.loader import eval_batches
from trainer.finished import data_of, open_run
from trainer.rundir import RunDir, read_json, write_json

NUMBERS = ("precision", "recall", "f1")


def evaluated(folder: Path, *arguments: str) -> dict[str, Any]:
    done = ostinato(folder, "evaluate", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def strict(text: str) -> Any:
    """Read JSON as those do who know no NaN and no Infinity."""

    def refuse(word: str) -> Any:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.fixture(scope="module")
def alone(digits: RunDir) -> dict[str, Any]:
    return evaluated(digits.path.parents[1], "runs/digits")


@pytest.fixture
def copy(digits: RunDir, tmp_path: Path) -> RunDir:
    shutil.copytree(digits.path, tmp_path / "runs" / "digits", ignore=shutil.ignore_patterns("evaluations"))
    return RunDir(tmp_path / "runs" / "digits")


def test_the_numbers_are_the_runs_own_to_the_last_bit(digits: RunDir, alone: dict[str, Any]) -> None:
    own = read_json(digits.evaluation("test"))
    assert (alone["samples"], alone["split"], alone["averaged"]) == (PRIME, "test", True)
    assert alone["metrics"] == {name: own[name] for name in alone["metrics"]}
    assert {"loss", "accuracy", "top5_accuracy", "f1"} == set(alone["metrics"])
    assert (alone["confusion"], alone["per_class"]) == (own["confusion"], own["per_class"])


@pytest.mark.parametrize("workers", ["2", "3"])
def test_they_do_not_depend_on_the_number_of_workers(here: Path, alone: dict[str, Any], workers: str) -> None:
    assert json.dumps(evaluated(here, "runs/digits", "--nproc-per-node", workers)) == json.dumps(alone)


def test_what_it_was_computed_on_is_said_and_a_run_of_a_gpu_needs_none(alone: dict[str, Any], copy: RunDir) -> None:
    assert alone["device"] == "cpu"
    copy.config.write_text(copy.config.read_text().replace("device: cpu", "device: cuda"))
    for path in copy.checkpoints.glob("*/manifest.json"):  # as if it had been one of a GPU
        facts = {**read_json(path), "config": config_hash(load(copy.config).config)}
        write_json(path, {**facts, "seal": seal(facts)})
    process = start(copy.path.parents[1], "evaluate", "runs/digits", "--nproc-per-node", "2", CUDA_VISIBLE_DEVICES="")
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, err
    assert err == "ostinato: no GPU here, and hardware.device is cuda: evaluated on the CPU, whose last digits may be others than a GPU's\n"
    assert out.splitlines()[0].endswith(", averaged weights, on cpu)")


def test_a_figure_that_is_not_finite_is_null_in_every_file_and_nan_in_the_table(tmp_path: Path) -> None:
    config = {
        "model": {"target": "mlp", "in_features": 4, "num_classes": 2, "hidden": [4]},
        "data": {"train": {"target": "tests.using.runs:Sides"}, "valid": {"target": "tests.using.runs:Sides", "only": 1}, "batch_size": 8},
        "loss": {"target": "cross_entropy", "ignore_index": 1},
        "optimizer": {"target": "sgd", "lr": 0.01},
        "train": {"epochs": 1},
    }
    run = trained(tmp_path, "ignored", config)
    done = ostinato(tmp_path, "evaluate", "runs/ignored", "--output", "out", "--json")
    assert done.returncode == 0, done.stderr
    kept = (tmp_path / "out" / "evaluation.json").read_text()
    for found in (strict(done.stdout)["metrics"], strict(kept)["metrics"], strict(run.evaluation("valid").read_text())):
        assert (found["accuracy"], found["f1"]) == (None, None)
    table = [line.split() for line in (tmp_path / "out" / "table.txt").read_text().splitlines()]
    assert ["accuracy", "nan"] in table


def test_they_are_scikit_learns(digits: RunDir, alone: dict[str, Any]) -> None:
    finished = open_run(str(digits.path))
    batches = [(finished.model(inputs), targets) for _, inputs, targets in eval_batches(data_of(finished, "test"), 50)]
    scores, truth = (torch.cat(parts).detach().numpy() for parts in zip(*batches, strict=True))
    said = scores.argmax(1)
    assert len(truth) == PRIME
    assert alone["metrics"]["accuracy"] == metrics.accuracy_score(truth, said)
    assert alone["metrics"]["top5_accuracy"] == metrics.top_k_accuracy_score(truth, scores, k=5)
    assert alone["metrics"]["f1"] == pytest.approx(metrics.f1_score(truth, said, average="macro"), abs=1e-12)
    shares = torch.from_numpy(scores).double().softmax(1).numpy()
    assert alone["metrics"]["loss"] == pytest.approx(metrics.log_loss(truth, shares), rel=1e-5)
    np.testing.assert_array_equal(alone["confusion"], metrics.confusion_matrix(truth, said))
    figures = metrics.precision_recall_fscore_support(truth, said, zero_division=0)
    for name, column in zip(NUMBERS, figures, strict=False):
        np.testing.assert_allclose([row[name] for row in alone["per_class"]], column, atol=1e-12)


def test_table_json_and_picture_are_kept(here: Path, tmp_path: Path) -> None:
    from PIL import Image

    done = ostinato(here, "evaluate", "runs/digits", "--output", str(tmp_path / "kept"))
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["confusion.png", "evaluation.json", "table.txt"]
    table = (tmp_path / "kept" / "table.txt").read_text()
    assert done.stdout.startswith(table)
    assert f"{PRIME} samples" in table
    assert [line.split()[0] for line in table.splitlines()[-10:]] == [str(digit) for digit in range(10)]
    kept = json.loads((tmp_path / "kept" / "evaluation.json").read_text())
    assert sum(map(sum, kept["confusion"])) == PRIME
    with Image.open(tmp_path / "kept" / "confusion.png") as picture:
        assert min(picture.size) > 400


def test_without_a_folder_they_go_into_the_runs_own_beside_what_training_wrote(copy: RunDir) -> None:
    before = written(copy)
    done = ostinato(copy.path.parents[1], "evaluate", "runs/digits", "--split", "valid")
    assert done.returncode == 0, done.stderr
    assert written(copy) == before
    [folder] = copy.evaluations.iterdir()
    assert folder.name.startswith("valid-step-")
    assert f"runs/digits/evaluations/{folder.name}" in done.stdout


def test_a_run_that_cannot_be_written_is_evaluated_all_the_same(copy: RunDir) -> None:
    before = written(copy)
    mounted = f"mount --bind runs runs && mount -o remount,ro,bind runs && exec {sys.executable} -m launcher evaluate runs/digits"
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", mounted], cwd=copy.path.parents[1], env=environment(), capture_output=True, text=True, timeout=LIMIT_S
    )
    assert done.returncode == 0, done.stderr
    assert f"{PRIME} samples" in done.stdout
    assert "Read-only file system" in done.stdout.splitlines()[-1]
    assert "--output" in done.stdout.splitlines()[-1]
    assert written(copy) == before


def test_a_run_that_is_training_now_is_evaluated_and_trains_on(tmp_path: Path, digits: RunDir) -> None:
    shutil.copy(digits.path.parents[1] / "digits.yaml", tmp_path)
    training = start(
        tmp_path, "train", "digits.yaml", "train.epochs=2000", "checkpoint.every_steps=3", "log.every_steps=1", "run.name=long"
    )
    try:
        run = RunDir(tmp_path / "runs" / "long")
        wait_for_step(run, 60, training)
        found = evaluated(tmp_path, "runs/long", "--checkpoint", "last", "--output", "kept")
        assert found["step"] >= 54
        assert training.poll() is None
        wait_for_step(run, found["step"] + 10, training)
    finally:
        training.kill()
        training.communicate()


def test_the_training_set_is_looked_at_with_the_transforms_of_evaluations(here: Path, digits: RunDir, tmp_path: Path) -> None:
    found = evaluated(here, "runs/digits", "--split", "train", "--checkpoint", "last", "--output", str(tmp_path))
    assert found["samples"] == 1797 - PRIME - 180
    assert found["checkpoint"] == store.pointed(digits.checkpoints, "last")


def test_a_damaged_best_checkpoint_is_said_and_the_newest_good_one_taken(copy: RunDir) -> None:
    best = store.pointed(copy.checkpoints, "best")
    assert best is not None
    names = store.names(copy.checkpoints)
    assert len(names) > 1
    damage(copy, best)
    done = ostinato(copy.path.parents[1], "evaluate", "runs/digits", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["checkpoint"] == [name for name in names if name != best][-1]
    assert f"{best}/state.pt" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_run_without_a_good_checkpoint_ends_with_3(copy: RunDir) -> None:
    for name in store.names(copy.checkpoints):
        damage(copy, name)
    done = ostinato(copy.path.parents[1], "evaluate", "runs/digits", "--nproc-per-node", "2")
    assert done.returncode == 3
    assert "none of its checkpoints can be used" in done.stderr
    assert "Traceback" not in done.stderr


def damage(run: RunDir, name: str) -> None:
    file = run.checkpoints / name / "state.pt"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("runs/none",), "runs/none: no run here (it has no config.yaml)"),
        (("runs/digits", "--split", "tset"), "command line: --split=tset: must be test, valid or train"),
        (("runs/digits", "--nproc-per-node", "0"), "command line: --nproc-per-node=0: must be auto or a whole number >= 1"),
        (("runs/digits", "--checkpoint", "step-7"), "no checkpoint 'step-7' here; there are best, last, step-"),
    ],
)
def test_what_is_not_there_is_one_line(here: Path, arguments: tuple[str, ...], words: str) -> None:
    done = ostinato(here, "evaluate", *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_config_that_was_changed_afterwards_is_refused(copy: RunDir) -> None:
    copy.config.write_text(copy.config.read_text().replace("decay: 0.9", "decay: 0.8"))
    done = ostinato(copy.path.parents[1], "evaluate", "runs/digits")
    assert done.returncode == 3
    assert "train.ema.decay: 0.9 -> 0.8" in done.stderr


def test_samples_that_cannot_be_read_are_not_counted_and_odd_names_of_classes_are_told(tmp_path: Path) -> None:
    write_folder(tmp_path / "photos", classes=("ants", os.fsdecode(b"caf\xe9")))
    for broken in sorted((tmp_path / "photos" / "ants").iterdir())[:2]:
        broken.write_bytes(broken.read_bytes()[:40])
    folder = {"target": "image_folder", "root": "photos"}
    config = {
        "model": {"target": "cnn", "in_channels": 3, "num_classes": 2, "width": 4},
        "data": {"train": folder, "valid": folder, "batch_size": 4, "bad_samples": "skip", "max_bad_samples": 5},
        "optimizer": {"target": "sgd", "lr": 0.05},
        "train": {"epochs": 1},
    }
    trained(tmp_path, "holed", config)
    total = sum(1 for _ in (tmp_path / "photos").rglob("*.png"))
    done = ostinato(tmp_path, "evaluate", "runs/holed", "--output", "out")
    assert done.returncode == 0, done.stderr
    assert f"valid set, {total - 2} samples and 2 that cannot be read" in done.stdout
    assert "caf\\udce9" in (tmp_path / "out" / "table.txt").read_text(encoding="utf-8")
    found = json.loads((tmp_path / "out" / "evaluation.json").read_text(encoding="utf-8"))
    assert (found["samples"], found["left_out"]) == (total - 2, 2)
    assert sum(map(sum, found["confusion"])) == total - 2
