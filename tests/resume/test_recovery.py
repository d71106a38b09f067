"""Touched checkpoints, wrong commands and stray exits: nothing is lost, and nothing looks like success that is none."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.support.jobs import DIGITS, SHORT, events, hurry, ostinato, rows, slow_digits, start, wait_for_step, weights
from trainer.checkpoint import store
from trainer.rundir import RunDir, read_json, write_json

ALONE = ("train", str(DIGITS), *SHORT, slow_digits(free=40))


@pytest.fixture(scope="module")
def stopped_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a run was stopped in its second epoch, with several checkpoints."""
    folder = tmp_path_factory.mktemp("stopped")
    run = RunDir(folder / "runs" / "digits")
    process = start(folder, *ALONE, "checkpoint.keep_last=9")
    wait_for_step(run, 34, process)
    process.send_signal(signal.SIGTERM)
    hurry(folder)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75, err
    assert len(store.names(run.checkpoints)) >= 3
    return folder


@pytest.fixture
def stopped(tmp_path: Path, stopped_once: Path) -> RunDir:
    """A copy of that run, to do with it what one likes."""
    shutil.copytree(stopped_once, tmp_path, symlinks=True, dirs_exist_ok=True)
    return RunDir(tmp_path / "runs" / "digits")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The weights of the run that nobody touched."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert ostinato(folder, "train", str(DIGITS), *SHORT).returncode == 0
    return weights(RunDir(folder / "runs" / "digits"))


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 16
    path.write_bytes(data)


def test_an_altered_newest_checkpoint_is_named_put_aside_and_the_one_before_it_is_used(stopped: RunDir, undisturbed: str) -> None:
    names = store.names(stopped.checkpoints)
    flip(stopped.checkpoints / names[-1] / store.STATE)
    done = ostinato(stopped.path.parent.parent, *ALONE)
    assert done.returncode == 0, done.stderr
    assert names[-1] in done.stdout + done.stderr
    assert events(stopped, "resumed")[0]["checkpoint"] == names[-2]
    assert (stopped.checkpoints / f"bad-{names[-1]}").is_dir()
    assert weights(stopped) == undisturbed


def test_an_altered_best_checkpoint_does_not_keep_a_run_from_its_end(stopped: RunDir, undisturbed: str) -> None:
    best = store.pointed(stopped.checkpoints, "best")
    assert best is not None
    flip(stopped.checkpoints / best / store.STATE)
    done = ostinato(stopped.path.parent.parent, *ALONE)
    assert done.returncode == 0, done.stderr
    assert weights(stopped) == undisturbed


def test_when_no_checkpoint_can_be_used_the_run_says_so_with_exit_code_3_and_deletes_nothing(stopped: RunDir) -> None:
    names = store.names(stopped.checkpoints)
    for name in names:
        flip(stopped.checkpoints / name / store.STATE)
    done = ostinato(stopped.path.parent.parent, *ALONE)
    assert done.returncode == 3
    assert "--fresh" in done.stderr
    assert "Traceback" not in done.stderr
    assert store.names(stopped.checkpoints) == names


def test_fresh_with_a_config_that_is_refused_leaves_the_run_where_it_is(stopped: RunDir) -> None:
    done = ostinato(stopped.path.parent.parent, *ALONE, "train.virtual_ranks=2", "--fresh", "--nproc-per-node", "3")
    assert done.returncode == 2
    assert stopped.exists()
    assert [path.name for path in stopped.path.parent.iterdir()] == ["digits"]


def test_a_run_folder_is_a_way_to_go_on_and_takes_no_overrides(stopped: RunDir, undisturbed: str) -> None:
    folder = stopped.path.parent.parent
    refused = ostinato(folder, "runs/digits", "train.epochs=9", module="trainer")
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    done = ostinato(folder, "runs/digits", module="trainer")
    assert done.returncode == 0, done.stderr
    assert weights(stopped) == undisturbed
    again = ostinato(folder, "runs/digits", module="trainer")
    assert (again.returncode, again.stdout) == (0, "run digits: finished already\n")
    assert len(events(stopped, "finished")) == 1


def test_the_number_of_workers_does_not_decide_the_number_of_threads(tmp_path: Path) -> None:
    found = []
    for workers in ("1", "2"):
        command = ("train", str(DIGITS), "train.epochs=2", "train.virtual_ranks=2", f"run.name=w{workers}", "--nproc-per-node", workers)
        assert ostinato(tmp_path, *command).returncode == 0
        found.append(weights(RunDir(tmp_path / "runs" / f"w{workers}")))
    assert found[0] == found[1]


LEAVING = """
import sys
from torch import nn


class Net(nn.Linear):
    def forward(self, images):
        sys.exit(0)
"""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_stray_exit_in_a_users_model_is_a_failure(tmp_path: Path, workers: str) -> None:
    (tmp_path / "leaving.py").write_text(LEAVING)
    model = 'model={target: "leaving:Net", in_features: 64, out_features: 10}'
    done = ostinato(tmp_path, "train", str(DIGITS), model, "--nproc-per-node", workers)
    assert done.returncode == 4
    assert "leaving.py" in done.stderr
    assert not events(RunDir(tmp_path / "runs" / "digits"), "finished")


def test_a_run_whose_checkpoints_have_all_vanished_says_so_and_keeps_its_rows(stopped: RunDir) -> None:
    before = stopped.metrics.read_bytes()
    for name in store.names(stopped.checkpoints):
        shutil.rmtree(stopped.checkpoints / name)
    done = ostinato(stopped.path.parent.parent, *ALONE)
    assert done.returncode == 3
    assert "was saved here, and now there is no checkpoint at all" in done.stderr
    assert "--fresh" in done.stderr
    assert stopped.metrics.read_bytes() == before


def test_a_newest_checkpoint_that_verifies_and_cannot_be_read_is_put_aside_too(stopped: RunDir, undisturbed: str) -> None:
    names = store.names(stopped.checkpoints)
    path = stopped.checkpoints / names[-1]
    torch.save({"step": store.step_of(names[-1]), "model": Path("code")}, path / store.STATE)
    manifest = read_json(path / store.MANIFEST)
    manifest["files"][store.STATE] = {"bytes": (path / store.STATE).stat().st_size, "sha256": store.digest(path / store.STATE)}
    write_json(path / store.MANIFEST, {**manifest, "seal": store.seal(manifest)})
    done = ostinato(stopped.path.parent.parent, *ALONE)
    assert done.returncode == 0, done.stderr
    assert events(stopped, "resumed")[0]["checkpoint"] == names[-2]
    assert (stopped.checkpoints / f"bad-{names[-1]}").is_dir()
    assert weights(stopped) == undisturbed


def test_a_run_is_finished_though_a_thread_has_something_to_say_after_it(tmp_path: Path) -> None:
    assert ostinato(tmp_path, *ALONE, "train.max_steps=3").returncode == 0
    run = RunDir(tmp_path / "runs" / "digits")
    run.event("environment-changed", attempt=0, change="torch 1 → 2")
    again = ostinato(tmp_path, *ALONE, "train.max_steps=3")
    assert again.returncode == 0
    assert "finished already" in again.stdout


def test_tensorboard_keeps_the_points_of_the_step_that_is_resumed(stopped: RunDir) -> None:
    done = ostinato(stopped.path.parent.parent, *ALONE)
    assert done.returncode == 0, done.stderr
    board = EventAccumulator(str(stopped.tensorboard), size_guidance={"scalars": 0}).Reload()
    steps = [point.step for point in board.Scalars("loss/train")]
    assert steps == [row["step"] for row in rows(stopped) if row["split"] == "train"]
    assert len(board.Scalars("loss/valid")) == 3
