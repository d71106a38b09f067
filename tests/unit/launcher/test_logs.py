"""`ostinato logs` prints what workers wrote: of any attempt and rank, and as it grows, through restarts."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launcher.logs import logs
from tests.support.jobs import environment, start
from trainer.errors import DONE, ConfigError, RunFolderError
from trainer.locks import RunLock
from trainer.rundir import RunDir, append_jsonl, make_private

LIMIT_S = 60


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A run of two attempts that has stopped."""
    found = RunDir(tmp_path / "one")
    found.create()
    found.config.write_text("train: {epochs: 3}\n")
    found.event("created", config="x.yaml", overrides=[])
    for attempt in (0, 1):
        for rank in (0, 1):
            write(found, attempt, rank, f"attempt {attempt} rank {rank}\n")
    found.event("stopped", attempt=1, step=5, signal="SIGTERM")
    return found


def write(run: RunDir, attempt: int, rank: int, text: str) -> None:
    make_private(run.attempt_logs(attempt))
    with open(run.rank_log(attempt, rank), "a", encoding="utf-8") as file:
        file.write(text)


class Following:
    """``ostinato logs … -f`` in a process of its own."""

    def __init__(self, run: RunDir, *arguments: str) -> None:
        self.out, self.err = run.path.parent / "out.txt", run.path.parent / "err.txt"
        with open(self.out, "w") as out, open(self.err, "w") as err:
            command = [sys.executable, "-m", "launcher", "logs", str(run.path), "-f", *arguments]
            self.process = subprocess.Popen(command, env=environment(), stdout=out, stderr=err)

    def until(self, text: str) -> None:
        """Wait until a text was printed."""
        self._wait(lambda: text in self.out.read_text(), text)

    def end(self) -> tuple[str, str]:
        """Wait until it has ended by itself; what it printed."""
        assert self.process.wait(LIMIT_S) == DONE, self.err.read_text()
        return self.out.read_text(), self.err.read_text()

    def _wait(self, true: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + LIMIT_S
        while not true():
            assert time.monotonic() < end, f"{what!r} was not printed: {self.out.read_text()!r} {self.err.read_text()!r}"
            assert self.process.poll() is None or true(), self.err.read_text()
            time.sleep(0.02)


@pytest.fixture
def held(run: RunDir) -> Iterator[RunLock]:
    """The run is under way."""
    lock = RunLock(run.lock)
    yield lock
    lock.release()


def test_the_newest_attempts_rank_0_is_shown_unless_another_is_named(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    assert logs(str(run.path)) == DONE
    assert capsys.readouterr().out == "attempt 1 rank 0\n"
    assert logs(str(run.path), rank="1", attempt=0) == DONE
    assert capsys.readouterr().out == "attempt 0 rank 1\n"


def test_lines_of_all_ranks_say_whose_they_are_and_a_last_line_without_an_end_is_shown(
    run: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    write(run, 1, 10, "first\nsecond \xff\n\nlast")
    assert logs(str(run.path), rank="all") == DONE
    lines = [
        "[rank 0] attempt 1 rank 0",
        "[rank 1] attempt 1 rank 1",
        "[rank 10] first",
        "[rank 10] second \xff",
        "[rank 10] ",
        "[rank 10] last",
    ]
    assert capsys.readouterr().out.splitlines() == lines


@pytest.mark.parametrize(
    ("rank", "attempt", "text"),
    [
        ("7", None, "no log of rank 7 in attempt 1; there are ranks 0, 1"),
        ("0", 5, "no attempt 5; there are 0, 1"),
        ("7", 0, "no log of rank 7"),
    ],
)
@pytest.mark.parametrize("follow", [False, True])
def test_a_log_that_is_not_there_is_refused_with_those_that_are(
    run: RunDir, rank: str, attempt: int | None, text: str, follow: bool
) -> None:
    with pytest.raises(RunFolderError, match=text):
        logs(str(run.path), rank=rank, attempt=attempt, follow=follow)


@pytest.mark.parametrize("rank", ["-1", "one", "", "1.0"])
def test_a_rank_that_is_none_is_refused(run: RunDir, rank: str) -> None:
    with pytest.raises(ConfigError, match="must be all or a whole number"):
        logs(str(run.path), rank=rank)


def test_a_run_that_never_began_has_no_log_and_a_folder_that_is_no_run_is_refused(run: RunDir, tmp_path: Path) -> None:
    for folder in list(run.logs.iterdir()):
        folder.rename(tmp_path / folder.name)
    with pytest.raises(RunFolderError, match="no log yet: no attempt has begun"):
        logs(str(run.path))
    with pytest.raises(RunFolderError, match="no run here"):
        logs(str(tmp_path / "nothing"))


def test_before_the_first_attempt_of_a_job_its_own_output_is_shown(run: RunDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "12_0_log.out"
    output.write_text("no such container\n")
    make_private(run.slurm)
    append_jsonl(run.submissions, {"time": 1.0, "job_id": "12", "log": str(output)})
    logs(str(run.path))
    assert capsys.readouterr().out == "attempt 1 rank 0\n"
    for folder in list(run.logs.iterdir()):
        folder.rename(tmp_path / folder.name)
    logs(str(run.path))
    assert capsys.readouterr().out == "no such container\n"


def test_following_goes_on_with_what_is_written_and_into_the_next_attempt_and_ends_with_the_run(run: RunDir, held: RunLock) -> None:
    following = Following(run)
    following.until("attempt 1 rank 0\n")
    write(run, 1, 0, "half a")
    write(run, 1, 1, "another rank\n")
    write(run, 1, 0, " line\n")
    following.until("half a line\n")
    write(run, 1, 0, "the end of attempt 1, without a newline")
    write(run, 2, 0, "attempt 2 begins\n")
    following.until("attempt 2 begins\n")
    write(run, 2, 0, "done\n")
    run.event("finished", attempt=2, step=9)
    held.release()
    out, err = following.end()
    assert out == "attempt 1 rank 0\nhalf a line\nthe end of attempt 1, without a newline\nattempt 2 begins\ndone\n"
    assert err.splitlines() == ["--- attempt 2 ---", "run one: finished"]


def test_following_one_attempt_ends_when_there_is_a_newer_one(run: RunDir, held: RunLock) -> None:
    following = Following(run, "--attempt", "1", "--rank", "all")
    following.until("[rank 1] attempt 1 rank 1\n")
    write(run, 1, 2, "a rank that comes late\n")
    following.until("[rank 2] a rank that comes late\n")
    write(run, 2, 0, "attempt 2 begins\n")
    out, _ = following.end()
    assert "attempt 2" not in out


def test_following_begins_with_a_jobs_output_and_goes_over_to_the_first_attempt(run: RunDir, held: RunLock, tmp_path: Path) -> None:
    for folder in list(run.logs.iterdir()):
        folder.rename(tmp_path / folder.name)
    output = tmp_path / "12_0_log.out"
    output.write_text("waiting for nodes\n")
    make_private(run.slurm)
    append_jsonl(run.submissions, {"time": 1.0, "job_id": "12", "log": str(output)})
    following = Following(run)
    following.until("waiting for nodes\n")
    write(run, 0, 0, "training\n")
    following.until("training\n")
    held.release()
    out, _ = following.end()
    assert out == "waiting for nodes\ntraining\n"


def test_ctrl_c_ends_only_the_looking(run: RunDir, held: RunLock) -> None:
    following = Following(run)
    following.until("attempt 1 rank 0\n")
    following.process.send_signal(signal.SIGINT)
    _, err = following.end()
    assert err == ""
    with pytest.raises(RunFolderError, match="in use"):
        RunLock(run.lock)


def test_a_reader_that_has_seen_enough_is_no_fault(run: RunDir) -> None:
    write(run, 1, 0, "a line of some length\n" * 20_000)
    process = start(run.path.parent, "logs", str(run.path))
    assert process.stdout is not None
    assert process.stdout.readline() == "attempt 1 rank 0\n"
    process.stdout.close()
    assert process.wait(LIMIT_S) == DONE
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()
