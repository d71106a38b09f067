"""One start at a time in a run folder, and none while a worker of an earlier one still lives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainer.errors import RunFolderError
from trainer.rundir import Fence, RunLock

ROOT = Path(__file__).parents[2]
HOLD = """
import sys, time
from pathlib import Path
from trainer.rundir import Fence
Fence.hold(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def orphan(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A worker of an earlier start, that works in ``tmp_path``."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "fence")], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_lock_is_refused_with_the_holders_name_until_the_first_is_released(tmp_path: Path) -> None:
    first = RunLock(tmp_path / "lock")
    with pytest.raises(RunFolderError, match=rf"in use by process {os.getpid()} on "):
        RunLock(tmp_path / "lock")
    first.release()
    first.release()
    RunLock(tmp_path / "lock").release()


def test_a_lock_that_cannot_be_opened_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"none/lock: cannot be opened \(No such file or directory\); set run.root"):
        RunLock(tmp_path / "none" / "lock")


def test_locks_and_fences_are_not_taken_through_a_symbolic_link(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("mine")
    for name in ("lock", "fence"):
        (tmp_path / name).symlink_to("other")
    with pytest.raises(RunFolderError, match=r"lock: is a symbolic link"):
        RunLock(tmp_path / "lock")
    for take in (Fence.hold, lambda path: Fence.wait(path, 0)):
        with pytest.raises(RunFolderError, match=r"fence: is a symbolic link"):
            take(tmp_path / "fence")
    assert (tmp_path / "other").read_text() == "mine"


def test_a_lock_whose_folder_was_moved_away_locks_nothing(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    first = RunLock(tmp_path / "one" / "lock")
    assert first.in_place
    (tmp_path / "one").rename(tmp_path / "two")
    assert not first.in_place
    (tmp_path / "one").mkdir()
    second = RunLock(tmp_path / "one" / "lock")
    assert not first.in_place
    first.take_over(second)
    assert first.in_place
    RunLock(tmp_path / "two" / "lock").release()
    with pytest.raises(RunFolderError, match="in use"):
        RunLock(tmp_path / "one" / "lock")
    first.release()
    assert not first.in_place
    RunLock(tmp_path / "one" / "lock").release()


def test_a_new_start_is_kept_out_while_a_worker_lives_and_its_process_is_named(tmp_path: Path, orphan: subprocess.Popen[str]) -> None:
    with pytest.raises(
        RunFolderError, match=rf"workers of an earlier start still run \(process {orphan.pid}\); wait for them, or end them"
    ):
        Fence.wait(tmp_path / "fence", 0.2)


def test_a_new_start_waits_until_the_last_worker_has_ended(tmp_path: Path, orphan: subprocess.Popen[str]) -> None:
    begun = time.monotonic()
    killer = subprocess.Popen(["sh", "-c", f"sleep 0.5; kill -9 {orphan.pid}"])
    Fence.wait(tmp_path / "fence", 30)
    assert time.monotonic() - begun >= 0.4
    orphan.wait(timeout=10)
    assert orphan.returncode == -signal.SIGKILL
    killer.wait()
    Fence.wait(tmp_path / "fence", 0)


def test_several_workers_hold_a_fence_and_a_run_that_was_never_created_has_none(tmp_path: Path, orphan: subprocess.Popen[str]) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path / "fence")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as second:
        assert second.stdout is not None
        assert second.stdout.readline() == "held\n"
        with pytest.raises(RunFolderError, match=r"\(processes \d+, \d+\)"):
            Fence.wait(tmp_path / "fence", 0)
        second.kill()
    Fence.wait(tmp_path / "none" / "fence", 0)
    assert not (tmp_path / "none").exists()
