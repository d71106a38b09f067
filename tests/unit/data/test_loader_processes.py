"""Loader workers: they go on when a job is asked to stop, and end with the worker they read for."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.data_sets import Dice
from tests.support.loading import close_while_stuck, read_into, read_some
from tests.support.ranks import run_ranks
from trainer.data.loader import TrainLoader, eval_batches, size_of_batch
from trainer.data.order import BatchPlan
from trainer.data.processes import STACKS


@pytest.fixture
def reading() -> Iterator[tuple[subprocess.Popen[str], list[psutil.Process]]]:
    """A process that reads with two loader workers, and those two."""
    process = subprocess.Popen([sys.executable, "-m", "tests.support.loading"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    workers = [psutil.Process(int(pid)) for pid in process.stdout.readline().split()]
    assert len(workers) == 2
    yield process, workers
    process.kill()
    process.communicate()


def gone(processes: list[psutil.Process], within_s: float = 5.0) -> bool:
    """Whether they all end in time."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if not any(map(lives, processes)):
            return True
        time.sleep(0.02)
    return False


def lives(process: psutil.Process) -> bool:
    """Whether it runs, and does not only wait to be reaped."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def test_they_do_not_outlive_a_worker_that_is_killed(reading: tuple[subprocess.Popen[str], list[psutil.Process]]) -> None:
    process, workers = reading
    process.kill()
    assert gone(workers, within_s=4.0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
def test_a_signal_to_them_and_their_server_stops_no_reading(
    reading: tuple[subprocess.Popen[str], list[psutil.Process]], number: signal.Signals
) -> None:
    process, workers = reading
    assert process.stdin is not None
    assert process.stdout is not None
    for target in (*workers, workers[0].parent()):
        assert target is not None
        os.kill(target.pid, number)
    for _ in range(40):  # well past what was read ahead, and into further epochs
        process.stdin.write("\n")
        process.stdin.flush()
        assert [int(pid) for pid in process.stdout.readline().split()] == [worker.pid for worker in workers]


def test_a_rank_has_its_own_and_takes_them_with_it() -> None:
    (pids, inputs), (others, same_inputs) = run_ranks(read_some, 2)
    assert inputs == same_inputs
    assert not set(pids) & set(others)
    left = []
    for pid in (*pids, *others):
        with contextlib.suppress(psutil.NoSuchProcess):
            left.append(psutil.Process(pid))
    assert gone(left)


def test_a_daemonic_process_may_have_them() -> None:
    context = multiprocessing.get_context("forkserver")
    box = context.Queue()
    process = context.Process(target=read_into, args=(box,), daemon=True)
    process.start()
    assert len(box.get(timeout=60)) == 2
    process.join()


def evaluated(size: int = 12) -> int:
    return sum(size_of_batch(inputs) for _, inputs, _ in eval_batches(Dice(size), 3, loader_workers=2))


def test_files_for_stacks_go_with_them_unless_somebody_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STACKS, str(tmp_path / "rank-0.stack"))
    for _ in range(2):
        assert evaluated() == 12
    assert list(tmp_path.iterdir()) == []
    loader = TrainLoader(Dice(50), BatchPlan(50, 8, 4, seed=3), loader_workers=2)
    next(loader.epoch(0))
    asked, other = (worker.pid for worker in loader._iterator._workers)
    file = tmp_path / f"rank-0.stack.loader-{asked}.txt"
    assert {path.name for path in tmp_path.iterdir()} == {file.name, f"rank-0.stack.loader-{other}.txt"}
    os.kill(asked, signal.SIGQUIT)
    end = time.monotonic() + 20
    while "File " not in file.read_text() and time.monotonic() < end:
        time.sleep(0.02)
    loader.close()
    assert list(tmp_path.iterdir()) == [file]
    assert "File " in file.read_text()


def test_they_read_where_no_file_for_stacks_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STACKS, str(tmp_path / "nowhere" / "rank-0.stack"))
    assert evaluated() == 12


def test_closing_ends_one_that_hangs_in_a_read() -> None:
    assert close_while_stuck() < 8
