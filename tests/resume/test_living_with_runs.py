"""Living with real runs: how they stand at every stage, their logs as they grow, stopping them, and going on from any folder."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from launcher.stopping import stop
from tests.support.jobs import (
    DIGITS,
    LIMIT_S,
    environment,
    events,
    hurry,
    kill_all,
    ostinato,
    pid_of,
    rows,
    slow_digits,
    start,
    wait_for_step,
    weights,
)
from trainer.errors import DONE, STOPPED, TRAINING_FAILED
from trainer.rundir import RunDir

SETTINGS = (
    "train.epochs=6",
    "data.batch_size=48",
    "checkpoint.every_steps=5",
    "log.every_steps=1",
    "train.virtual_ranks=2",
    "hardware.threads=1",
)
TRAIN = ("train", str(DIGITS), *SETTINGS, "--nproc-per-node", "2")
SLOW = slow_digits(free=20)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A run that nothing has happened to."""
    folder = tmp_path_factory.mktemp("whole")
    done = ostinato(folder, *TRAIN)
    assert done.returncode == DONE, done.stderr
    return RunDir(folder / "runs" / "digits")


def status(folder: Path) -> dict[str, Any]:
    """The line of the only run below a folder."""
    done = ostinato(folder, "status", "--json")
    assert (done.returncode, done.stderr) == (DONE, "")
    (found,) = json.loads(done.stdout)
    return dict(found)


def follow(folder: Path, out: Path) -> subprocess.Popen[str]:
    """``ostinato logs -f`` of the run in a folder, into a file."""
    with open(out, "w") as file:
        command = [sys.executable, "-m", "launcher", "logs", "runs/digits", "--rank", "all", "--follow"]
        return subprocess.Popen(command, cwd=folder, env=environment(), stdout=file, stderr=subprocess.DEVNULL, text=True)


def test_a_run_is_seen_stopped_and_goes_on_from_another_folder_to_the_same_weights(tmp_path: Path, whole: RunDir) -> None:
    home, away = tmp_path / "home", tmp_path / "away"
    home.mkdir()
    away.mkdir()
    run = RunDir(home / "runs" / "digits")
    training = start(home, *TRAIN, SLOW)
    wait_for_step(run, 12, training)
    found = status(home)
    assert (found["state"], found["process"], found["epochs"], found["of"]) == ("running", training.pid, 6, 26 * 6)
    assert stop([str(run.path)]) == DONE
    hurry(home)
    _, err = training.communicate(timeout=LIMIT_S)
    assert training.returncode == STOPPED, err
    found = status(home)
    assert (found["state"], found["process"], found["starts"]) == ("stopped", None, 1)
    step = events(run, "stopped")[-1]["step"]
    assert found["step"] == step
    assert int(found["checkpoint"][5:13]) == step
    on = ostinato(away, "resume", str(run.path))
    assert on.returncode == DONE, on.stderr
    assert list(away.iterdir()) == []
    assert (events(run, "resumed")[-1]["workers"], int(events(run, "resumed")[-1]["checkpoint"][5:13])) == (2, step)
    assert weights(run) == weights(whole)
    assert rows(run) == rows(whole)
    found = status(home)
    assert (found["state"], found["step"], found["of"], found["starts"], found["restarts"]) == ("finished", 156, 156, 2, 0)
    again = ostinato(away, "resume", str(run.path))
    assert (again.returncode, again.stderr) == (DONE, "")
    assert "finished already" in again.stdout


def test_logs_are_followed_through_a_restart_to_the_end_of_the_run(tmp_path: Path, whole: RunDir) -> None:
    run, out = RunDir(tmp_path / "runs" / "digits"), tmp_path / "out.txt"
    training = start(tmp_path, *TRAIN, SLOW)
    wait_for_step(run, 12, training)
    following = follow(tmp_path, out)
    psutil.Process(pid_of(run, 1)).kill()
    hurry(tmp_path)
    _, err = training.communicate(timeout=LIMIT_S)
    assert training.returncode == DONE, err
    assert following.wait(LIMIT_S) == DONE
    newest = [run.rank_log(1, rank).read_text().splitlines() for rank in (0, 1)]
    printed = out.read_text().splitlines()
    for rank, lines in enumerate(newest):
        assert [line.removeprefix(f"[rank {rank}] ") for line in printed if line.startswith(f"[rank {rank}] ")][
            -len(lines) :
        ] == lines or not lines
    assert "training from step-" in newest[0][0]
    found = status(tmp_path)
    assert (found["state"], found["starts"], found["restarts"]) == ("finished", 2, 1)
    assert weights(run) == weights(whole)


def test_a_killed_run_is_lost_and_resumed_under_another_name_with_a_place_of_its_own(tmp_path: Path, whole: RunDir) -> None:
    run = RunDir(tmp_path / "runs" / "digits")
    training = start(tmp_path, *TRAIN, SLOW)
    wait_for_step(run, 12, training)
    kill_all(training)
    hurry(tmp_path)
    assert status(tmp_path)["state"] == "lost"
    moved = RunDir(tmp_path / "kept: mine #1" / "another")
    moved.path.parent.mkdir()
    wait_until_gone(pid_of(run, 0), pid_of(run, 1))
    run.path.rename(moved.path)
    on = ostinato(tmp_path, "resume", str(moved.path), "--nproc-per-node", "1")
    assert on.returncode == DONE, on.stderr
    assert events(moved, "resumed")[-1]["workers"] == 1
    assert not run.path.exists()
    assert weights(moved) == weights(whole)


def wait_until_gone(*pids: int) -> None:
    end = time.monotonic() + LIMIT_S
    while any(psutil.pid_exists(pid) for pid in pids):
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_run_that_failed_says_with_which_exit_code(tmp_path: Path) -> None:
    done = ostinato(tmp_path, "train", str(DIGITS), "train.epochs=1", "optimizer.lr=1e30")
    assert done.returncode == TRAINING_FAILED
    found = status(tmp_path)
    assert (found["state"], found["exit_code"], found["detail"]) == ("failed", TRAINING_FAILED, "exit 4")


def test_a_run_is_stopped_while_it_starts_and_goes_on(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "runs" / "digits")
    training = start(tmp_path, "train", str(DIGITS), "train.epochs=1", slow_digits(free=0))
    end = time.monotonic() + LIMIT_S
    while not events(run, "created"):
        assert time.monotonic() < end
        time.sleep(0.005)
    assert stop([str(run.path)]) == DONE
    _, err = training.communicate(timeout=LIMIT_S)
    assert training.returncode == STOPPED, err
    hurry(tmp_path)
    assert status(tmp_path)["state"] == "stopped"
    assert ostinato(tmp_path, "resume", "runs/digits").returncode == DONE
    assert status(tmp_path)["state"] == "finished"
