"""The health check's judgement, on run folders and processes made for it; tests/containers/test_image.py has it in real containers."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.jobs import ROOT

CHECK = ROOT / "docker" / "healthcheck.py"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder as a launcher leaves it."""
    folder = tmp_path / "anywhere" / "digits"
    (folder / "heartbeats").mkdir(parents=True)
    (folder / "lock").write_text("process 1 on somewhere\n")
    return folder


@pytest.fixture
def holder(run: Path) -> Iterator[int]:
    """A process that has the run's fence open, as a worker has."""
    code = f"import time; fence = open({str(run / 'fence')!r}, 'a'); print('open', flush=True); time.sleep(1000)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    yield process.pid
    process.kill()
    process.communicate()


def beat(run: Path, rank: int, pid: int, idle_s: float, *, begun: bool = True) -> None:
    """A rank's heartbeat that last moved some time ago."""
    facts = {"rank": rank, "pid": pid, "moved": time.monotonic() - idle_s, "begun": begun, "step": 7}
    (run / "heartbeats" / f"rank-{rank}.json").write_text(json.dumps(facts))


def check(run: Path, limit_s: float = 10, start_limit_s: float = 100) -> tuple[int, list[str]]:
    """The exit code, and what is said of this run (others may be under way on this machine)."""
    words = [sys.executable, str(CHECK), "--limit-s", str(limit_s), "--start-limit-s", str(start_limit_s)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, [line for line in done.stdout.splitlines() if str(run) in line]


def test_a_run_that_moves_is_healthy(run: Path, holder: int) -> None:
    beat(run, 0, holder, idle_s=1)
    assert check(run)[1] == []


def test_the_newest_heartbeat_counts(run: Path, holder: int) -> None:
    beat(run, 0, holder, idle_s=50)
    beat(run, 1, holder, idle_s=1)
    assert check(run)[1] == []


def test_a_run_of_which_no_worker_moves_is_not(run: Path, holder: int) -> None:
    beat(run, 0, holder, idle_s=50)
    code, said = check(run)
    assert code == 1
    assert len(said) == 1
    assert said[0].startswith(f"{run}: has not moved for 5")
    assert said[0].endswith("s since step 7")


def test_until_the_first_update_there_is_more_time(run: Path, holder: int) -> None:
    beat(run, 0, holder, idle_s=50, begun=False)
    assert check(run)[1] == []
    assert check(run, start_limit_s=40)[0] == 1


def test_heartbeats_of_other_processes_do_not_hide_that_ours_stand_still(run: Path, holder: int) -> None:
    beat(run, 0, holder, idle_s=50)
    beat(run, 1, os.getpid(), idle_s=0)
    assert check(run)[0] == 1


def test_workers_that_are_just_being_started_have_the_time_of_a_start(run: Path, holder: int) -> None:
    assert check(run)[1] == []
    os.utime(run / "lock", (time.time() - 500,) * 2)
    (told,) = check(run)[1]
    assert re.fullmatch(rf"{re.escape(str(run))}: has not moved for 5\d\d s and has no workers yet", told)


def test_a_run_that_nobody_works_at_is_nobody_s_illness(run: Path) -> None:
    beat(run, 0, os.getpid(), idle_s=50)
    assert check(run)[1] == []


def test_a_torn_heartbeat_is_passed_over(run: Path, holder: int) -> None:
    beat(run, 0, holder, idle_s=1)
    (run / "heartbeats" / "rank-1.json").write_text('{"rank": 1, "pi')
    (run / "heartbeats" / "rank-2.json").write_text("[]")
    assert check(run)[1] == []


def test_it_needs_nothing_but_the_standard_library() -> None:
    done = subprocess.run([sys.executable, "-I", "-S", str(CHECK), "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
