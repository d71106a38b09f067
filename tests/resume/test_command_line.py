"""The promises of the command line, on real jobs: the same bits however it is started, and after a kill."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.support.jobs import (
    DIGITS,
    LIMIT_S,
    SHORT,
    events,
    hurry,
    kill_all,
    ostinato,
    pid_of,
    rows,
    slow_digits,
    start,
    torchrun,
    wait_for_step,
    weights,
)
from trainer.rundir import RunDir, read_jsonl


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """An uninterrupted run on two workers."""
    folder = tmp_path_factory.mktemp("whole")
    done = ostinato(folder, "train", str(DIGITS), *SHORT, "train.virtual_ranks=2", "hardware.threads=1", "--nproc-per-node", "2")
    assert done.returncode == 0, done.stderr
    return RunDir(folder / "runs" / "digits")


def test_torchrun_and_ostinato_train_give_the_same_weights(tmp_path: Path, whole: RunDir) -> None:
    done = torchrun(tmp_path, 2, str(DIGITS), *SHORT)
    assert done.returncode == 0, done.stderr
    run = RunDir(tmp_path / "runs" / "digits")
    assert weights(run) == weights(whole)
    assert rows(run) == rows(whole)


def test_one_process_alone_gives_the_weights_of_two_workers(tmp_path: Path, whole: RunDir) -> None:
    done = ostinato(tmp_path, str(DIGITS), *SHORT, "train.virtual_ranks=2", "hardware.threads=1", module="trainer")
    assert done.returncode == 0, done.stderr
    run = RunDir(tmp_path / "runs" / "digits")
    assert weights(run) == weights(whole)
    assert rows(run) == rows(whole)


@pytest.mark.parametrize("victim", ["launcher", "worker"])
def test_a_killed_run_goes_on_from_its_last_checkpoint_when_the_same_command_is_typed_again(
    tmp_path: Path, whole: RunDir, victim: str
) -> None:
    command = ("train", str(DIGITS), *SHORT, slow_digits(free=20), "supervision.max_restarts=0", "--nproc-per-node", "2")
    run = RunDir(tmp_path / "runs" / "digits")
    first = start(tmp_path, *command)
    reached = wait_for_step(run, 12, first)
    pids = [pid_of(run, rank) for rank in (0, 1)]
    if victim == "launcher":
        kill_all(first)
        hurry(tmp_path)
    else:
        psutil.Process(pids[1]).kill()
        hurry(tmp_path)
        _, err = first.communicate(timeout=60)
        assert first.returncode == 5
        assert "rank 1" in err
        assert "Traceback" not in err
    limit = time.monotonic() + LIMIT_S
    while any(psutil.pid_exists(pid) for pid in pids) and time.monotonic() < limit:
        time.sleep(0.02)
    assert not any(psutil.pid_exists(pid) for pid in pids), "a worker outlived its launcher"
    again = ostinato(tmp_path, *command)
    assert again.returncode == 0, again.stderr
    resumed = events(run, "resumed")
    assert len(resumed) == 1
    # The row of a step comes before its checkpoint, which is written while training goes on, and waits for the one before it.
    assert int(resumed[0]["checkpoint"][5:13]) >= (reached - 1) // 5 * 5 - 5
    assert weights(run) == weights(whole)
    assert rows(run) == rows(whole)


def test_a_request_to_stop_ends_with_75_and_a_checkpoint_and_the_same_command_goes_on(tmp_path: Path, whole: RunDir) -> None:
    command = ("train", str(DIGITS), *SHORT, slow_digits(free=20), "checkpoint.every_steps=1000", "--nproc-per-node", "2")
    run = RunDir(tmp_path / "runs" / "digits")
    first = start(tmp_path, *command)
    wait_for_step(run, 7, first)
    first.send_signal(signal.SIGTERM)
    hurry(tmp_path)
    out, err = first.communicate(timeout=60)
    assert first.returncode == 75, err
    assert "same command" in out
    stopped = events(run, "stopped")[0]["step"]
    again = ostinato(tmp_path, *command)
    assert again.returncode == 0, again.stderr
    assert int(events(run, "resumed")[0]["checkpoint"][5:13]) == stopped
    assert weights(run) == weights(whole)
    assert rows(run) == rows(whole)


def test_a_finished_run_says_so_and_fresh_moves_it_aside(tmp_path: Path) -> None:
    command = ("train", str(DIGITS), "train.epochs=1")
    assert ostinato(tmp_path, *command).returncode == 0
    before = weights(RunDir(tmp_path / "runs" / "digits"))
    again = ostinato(tmp_path, *command)
    assert again.returncode == 0
    assert "finished" in again.stdout
    fresh = ostinato(tmp_path, *command, "seed=9", "--fresh")
    assert fresh.returncode == 0, fresh.stderr
    assert weights(RunDir(tmp_path / "runs" / "digits.1")) == before
    assert weights(RunDir(tmp_path / "runs" / "digits")) != before


def test_other_settings_in_an_existing_run_folder_are_refused_and_change_nothing(tmp_path: Path) -> None:
    assert ostinato(tmp_path, "train", str(DIGITS), "train.epochs=1").returncode == 0
    run = RunDir(tmp_path / "runs" / "digits")
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file() and path != run.lock}
    done = ostinato(tmp_path, "train", str(DIGITS), "train.epochs=2")
    assert done.returncode == 2
    assert "train.epochs" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file() and path != run.lock} == before


def test_a_file_in_the_run_folders_place_is_told_in_one_line_and_stays(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "digits").write_text("mine")
    done = ostinato(tmp_path, "train", str(DIGITS))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, done.stderr
    assert "runs/digits: a file is where the run folder should be" in done.stderr
    assert (tmp_path / "runs" / "digits").read_text() == "mine"


def test_the_run_folder_holds_what_the_documentation_says(whole: RunDir) -> None:
    for path in (whole.config, whole.environment, whole.events, whole.metrics, whole.system, whole.tensorboard, whole.heartbeats):
        assert path.exists(), path
    assert whole.rank_log(0, 1).is_file()
    assert {row["split"] for row in read_jsonl(whole.metrics)} == {"train", "epoch", "weights", "valid", "test"}
    assert [row["event"] for row in read_jsonl(whole.events)][:2] == ["created", "started"]
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(whole.tensorboard))
    board.Reload()
    drawn = {event.step: event.value for event in board.Scalars("loss/valid")}
    written = {row["step"]: row["loss"] for row in read_jsonl(whole.metrics) if row["split"] == "valid"}
    assert drawn == pytest.approx(written, rel=1e-6)
