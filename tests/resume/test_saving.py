"""Kills, stops, full disks and bad numbers while a checkpoint is written, through the real command line."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.jobs import DIGITS, LIMIT_S, environment, events, hurry, kill_all, ostinato, rows, slow_digits, start, weights
from trainer.checkpoint import store
from trainer.rundir import RunDir

# A million weights with momentum, 9 MB, saved at each step: nearly always, one is being written.
LARGE = (
    *("train", str(DIGITS), "model={target: mlp, in_features: 64, num_classes: 10, hidden: 1000, depth: 2}"),
    *("train.epochs=1", "train.max_steps=14", "checkpoint.every_steps=1", "log.every_steps=1", "checkpoint.keep_last=99"),
    *("supervision.max_restarts=0", "hardware.threads=1", "log.tensorboard=false"),
)
SMALL = (
    "train",
    str(DIGITS),
    "train.epochs=1",
    "train.max_steps=18",
    "checkpoint.every_steps=1",
    "checkpoint.keep_last=999",
    "supervision.max_restarts=0",
    slow_digits(free=10),  # it is met before its end, however fast the machine is
)
# Three steps at once for each start, as it reads once before them: three starts are not through.
SLOW = slow_digits(free=4)


def wait_for_write(run: RunDir, after: int, process: subprocess.Popen[str]) -> str:
    """Wait until a checkpoint beyond step `after` is being written; its name."""
    limit = time.monotonic() + LIMIT_S
    while time.monotonic() < limit:
        for state in run.checkpoints.glob(".partial-step-*/state.pt"):
            name = state.parent.name.removeprefix(".partial-")
            if store.step_of(name) > after:
                return name
        assert process.poll() is None, process.communicate()
    raise AssertionError("nothing was written")


def acknowledged(run: RunDir) -> list[str]:
    return [str(row["checkpoint"]) for row in events(run, "checkpointed")]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """The large run that nobody touched."""
    folder = tmp_path_factory.mktemp("undisturbed")
    done = ostinato(folder, *LARGE)
    assert done.returncode == 0, done.stderr
    return RunDir(folder / "runs" / "digits")


def test_a_kill_while_a_checkpoint_is_written_loses_only_that_one(tmp_path: Path, undisturbed: RunDir) -> None:
    run, reached = RunDir(tmp_path / "runs" / "digits"), 0
    for _ in range(3):
        process = start(tmp_path, *LARGE, SLOW)
        broken_off = wait_for_write(run, reached + 1, process)
        kill_all(process)
        said = acknowledged(run)
        for name in said:
            store.verify(run.checkpoints / name)
        newest, complaints = store.newest_good(run.checkpoints)
        assert complaints == []
        assert newest is not None
        reached = store.step_of(newest)
        assert reached >= store.step_of(broken_off) - 1
        assert reached >= max(store.step_of(name) for name in said)
    hurry(tmp_path)
    done = ostinato(tmp_path, *LARGE, SLOW)
    assert done.returncode == 0, done.stderr
    assert len(events(run, "resumed")) == 3
    assert weights(run) == weights(undisturbed)
    assert rows(run) == rows(undisturbed)
    assert not list(run.checkpoints.glob(".partial-*"))


def test_a_stop_during_a_save_ends_with_75_and_both_saves_whole(tmp_path: Path, undisturbed: RunDir) -> None:
    run = RunDir(tmp_path / "runs" / "digits")
    process = start(tmp_path, *LARGE, SLOW)
    being_written = wait_for_write(run, 1, process)
    process.send_signal(signal.SIGTERM)
    hurry(tmp_path)
    _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 75, err
    (stopped,) = events(run, "stopped")
    names = store.names(run.checkpoints)
    assert being_written in names
    assert store.step_of(names[-1]) == stopped["step"]
    assert names == acknowledged(run)
    for name in names:
        store.verify(run.checkpoints / name)
    assert not list(run.checkpoints.glob(".partial-*"))
    assert ostinato(tmp_path, *LARGE, SLOW).returncode == 0
    assert weights(run) == weights(undisturbed)


def on_a_small_disk(folder: Path, size: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``ostinato`` with a real disk of some bytes in place of ``runs/digits/checkpoints``; what is there is copied in and out."""
    script = """
        set -e
        cp -a runs/digits/checkpoints before
        mount -t tmpfs -o size=$1 none runs/digits/checkpoints
        cp -a before/. runs/digits/checkpoints
        shift
        set +e
        "$@"
        code=$?
        cp -a runs/digits/checkpoints after
        exit $code
    """
    command = ["unshare", "-m", "sh", "-c", script, "sh", str(size), sys.executable, "-m", "launcher", *arguments]
    return subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=LIMIT_S, check=False)


@pytest.fixture
def begun(tmp_path: Path) -> tuple[RunDir, int]:
    """A small run that was killed at its beginning, and the size of a checkpoint."""
    run = RunDir(tmp_path / "runs" / "digits")
    process = start(tmp_path, *SMALL)
    wait_for_write(run, 2, process)
    kill_all(process)
    hurry(tmp_path)
    for half in run.checkpoints.glob(".partial-*"):  # the kill may have met a write: its half would not fit on the small disk
        shutil.rmtree(half)
    names = store.names(run.checkpoints)
    return run, sum(file.stat().st_size for file in (run.checkpoints / names[0]).iterdir())


def test_a_disk_that_fills_up_ends_the_run_loudly_with_the_last_good_checkpoint(tmp_path: Path, begun: tuple[RunDir, int]) -> None:
    run, size = begun
    there = len(store.names(run.checkpoints))
    done = on_a_small_disk(tmp_path, int((there + 4.5) * size), *SMALL)
    assert done.returncode == 5, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    after = tmp_path / "after"
    names = store.names(after)
    assert len(names) > there
    (line,) = [line for line in done.stderr.splitlines() if "could not be written" in line]
    assert "No space left on device" in line
    assert "free some space" in line
    assert line.endswith(f"the last good checkpoint is {names[-1]}")
    for name in names:
        store.verify(after / name)
    assert not list(after.glob(".partial-*"))
    shutil.rmtree(run.checkpoints)
    after.rename(run.checkpoints)
    assert ostinato(tmp_path, *SMALL).returncode == 0


def test_a_disk_with_room_for_a_few_checkpoints_only_is_said_before_training(tmp_path: Path, begun: tuple[RunDir, int]) -> None:
    run, size = begun
    there = len(store.names(run.checkpoints))
    done = on_a_small_disk(tmp_path, int((there + 1.5) * size), *SMALL)
    assert "checkpoint.keep_last" in done.stdout + done.stderr
    assert "there is room for" in done.stdout + done.stderr


def test_a_disk_without_room_for_one_checkpoint_is_refused_before_the_first_step(tmp_path: Path, begun: tuple[RunDir, int]) -> None:
    run, size = begun
    before = store.names(run.checkpoints)
    done = on_a_small_disk(tmp_path, int((len(before) + 0.5) * size), *SMALL)
    assert done.returncode == 5, done.stdout + done.stderr
    assert "a checkpoint needs" in done.stderr
    assert "kB are free" in done.stderr
    assert "Traceback" not in done.stderr
    assert store.names(tmp_path / "after") == before


POISONED = """
import torch
from torch import nn


class Net(nn.Linear):
    '''A buffer goes wrong at the eighth update; the loss does not show it.'''

    def __init__(self):
        super().__init__(64, 10)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, images):
        if self.training:
            self.seen += 1 if self.seen < 7 else float("nan")
        return super().forward(images.flatten(1))
"""


def test_a_state_with_a_nan_never_becomes_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "poisoned.py").write_text(POISONED)
    done = ostinato(tmp_path, *SMALL, 'model={target: "poisoned:Net"}')
    assert done.returncode == 4, done.stdout + done.stderr
    assert "step 8: seen is not finite" in done.stderr
    assert "Traceback" not in done.stderr
    run = RunDir(tmp_path / "runs" / "digits")
    assert store.names(run.checkpoints)[-1] == acknowledged(run)[-1] == "step-00000007"


def test_a_run_whose_config_was_changed_by_hand_refuses_its_checkpoints_and_goes_on_when_it_is_put_back(tmp_path: Path) -> None:
    process = start(tmp_path, *SMALL)
    run = RunDir(tmp_path / "runs" / "digits")
    wait_for_write(run, 2, process)
    kill_all(process)
    hurry(tmp_path)
    names = store.names(run.checkpoints)
    text = run.config.read_text()
    assert "lr: 0.05" in text
    run.config.write_text(text.replace("lr: 0.05", "lr: 0.07"))
    refused = ostinato(tmp_path, "runs/digits", module="trainer")
    assert refused.returncode == 3, refused.stdout + refused.stderr
    assert "optimizer.lr: 0.05 -> 0.07" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert store.names(run.checkpoints) == names
    run.config.write_text(text)
    done = ostinato(tmp_path, *SMALL)
    assert done.returncode == 0, done.stderr
