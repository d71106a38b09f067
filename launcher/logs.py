"""``ostinato logs``: what the workers wrote, of any attempt and rank, and as it grows (free of torch)."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from launcher.looking import looking
from launcher.standing import look_at
from trainer.errors import DONE, ConfigError, RunFolderError
from trainer.rundir import RunDir

POLL_S = 0.2
LOOK_EVERY_S = 2.0  # Slurm may be asked then
BLOCK = 1 << 20
ALL = "all"


def logs(run: str, *, rank: str = "0", attempt: int | None = None, follow: bool = False) -> int:
    """Print the logs of a run.

    Args:
        run: the run folder.
        rank: a rank's number, or ``all``.
        attempt: which one; None: the newest. Before the first one of a job in Slurm, the job's own output is shown.
        follow: go on with what is written, through restarts and requeues, until nobody runs the run any more.

    Raises:
        RunFolderError: no run, or no such log.
        ConfigError: a rank that is none.
    """
    folder = RunDir(run)
    if rank != ALL and not re.fullmatch(r"\d{1,6}", rank):
        raise ConfigError(f"command line: --rank={rank}: must be all or a whole number >= 0")
    look_at(folder)  # says what is wrong with it
    reader = _Reader(folder, rank, attempt)
    _read(reader, follow)
    return DONE


def follow_to_its_end(run: RunDir) -> bool:
    """Print what rank 0 writes until the run has ended, also if it never began; False: whoever looked has left before."""
    return _read(_Reader(run, "0", None), follow=True, must_begin=False)


def _read(reader: _Reader, follow: bool, must_begin: bool = True) -> bool:
    """Print all; False: nobody wants to see the rest."""
    with looking():
        if follow:
            _follow(reader, must_begin)
        else:
            reader.read_once()
        sys.stdout.flush()
        return True
    return False


def _follow(reader: _Reader, must_begin: bool) -> None:
    """Print what comes until the run has ended."""
    looked = 0.0
    while True:
        ended, asked = False, time.monotonic()
        if asked - looked >= LOOK_EVERY_S or looked == 0:
            looked = asked
            standing, _ = look_at(reader.run)
            ended = not standing.may_be_on and not standing.facts.held
        reader.read_more()  # after the question: what was written before the end is printed
        if ended or reader.closed:
            reader.end()
            if must_begin and not reader.files:
                raise RunFolderError(reader.nothing())
            _aside(f"run {reader.run.name}: {standing.state}" + (f" ({standing.detail})" if standing.detail else ""))
            return
        time.sleep(POLL_S)


class _Reader:
    """Reads the logs of one attempt after another.

    Args:
        run: the run folder.
        rank: a number, or ``all``.
        attempt: the only one to read; None: the newest.
    """

    def __init__(self, run: RunDir, rank: str, attempt: int | None) -> None:
        self.run, self.rank, self.only = run, rank, attempt
        self.attempt: int | None = None
        self.files: dict[Path, _Tail] = {}

    @property
    def closed(self) -> bool:
        """Whether the one attempt that was asked for is over, because there is a newer one."""
        return self.only is not None and any(number > self.only for number in attempts(self.run))

    def read_once(self) -> None:
        """Print all there is.

        Raises:
            RunFolderError: there is no such log.
        """
        self._choose()
        if not self.files:
            raise RunFolderError(self.nothing())
        for tail in self.files.values():
            tail.copy()
            tail.finish()

    def read_more(self) -> None:
        """Print what was written since; a newer attempt comes after the end of the one before."""
        before = self.attempt
        newest = max(attempts(self.run), default=None)
        for tail in self.files.values():
            tail.copy()
        if self.only is None and newest != before and newest is not None:
            self.end()
            self.files.clear()
            if before is not None:
                _aside(f"--- attempt {newest} ---")
        self._choose()
        for tail in self.files.values():
            tail.copy()
        sys.stdout.flush()

    def end(self) -> None:
        """Print what has no end of line yet."""
        for tail in self.files.values():
            tail.copy()
            tail.finish()
        sys.stdout.flush()

    def _choose(self) -> None:
        """Open the files that are to be read and are not yet."""
        self.attempt = self.only if self.only is not None else max(attempts(self.run), default=None)
        if self.attempt is None:
            if (path := job_output(self.run)) is not None and path not in self.files:
                self.files[path] = _Tail(path, "")
            return
        for rank in ranks(self.run, self.attempt):
            path = self.run.rank_log(self.attempt, rank)
            if self.rank in (ALL, str(rank)) and path not in self.files:
                self.files[path] = _Tail(path, f"[rank {rank}] " if self.rank == ALL else "")

    def nothing(self) -> str:
        """Why there is nothing to show."""
        if self.attempt is None:
            return f"{self.run.path}: no log yet: no attempt has begun"
        there = ranks(self.run, self.attempt)
        if self.attempt not in attempts(self.run):
            numbers = ", ".join(map(str, attempts(self.run))) or "none"
            return f"{self.run.path}: no attempt {self.attempt}; there are {numbers} (--attempt)"
        return f"{self.run.path}: no log of rank {self.rank} in attempt {self.attempt}; there are {_list(there)} (--rank)"


class _Tail:
    """One file, printed as it grows, whole lines only.

    Args:
        path: the file.
        prefix: stands before each line.
    """

    def __init__(self, path: Path, prefix: str) -> None:
        self.path, self.prefix = path, prefix
        self.at, self.rest = 0, b""

    def copy(self) -> None:
        """Print the lines that are complete and were not printed yet."""
        while block := self._read():
            self.at += len(block)
            *lines, self.rest = (self.rest + block).split(b"\n")
            self._print(lines)

    def _read(self) -> bytes:
        try:
            with open(self.path, "rb") as file:
                if os.fstat(file.fileno()).st_size < self.at:
                    self.at, self.rest = 0, b""  # made anew
                file.seek(self.at)
                return file.read(BLOCK)
        except FileNotFoundError:
            return b""
        except OSError as fault:
            raise RunFolderError(f"{self.path}: cannot be read ({fault.strerror})") from fault

    def finish(self) -> None:
        """Print a last line that has no end."""
        if self.rest:
            self._print([self.rest])
            self.rest = b""

    def _print(self, lines: Iterable[bytes]) -> None:
        sys.stdout.write("".join(f"{self.prefix}{line.decode(errors='replace')}\n" for line in lines))


def attempts(run: RunDir) -> list[int]:
    """The attempts that have logs."""
    return sorted(int(found[1]) for path in run.logs.glob("attempt-*") if (found := re.fullmatch(r"attempt-(\d+)", path.name)))


def ranks(run: RunDir, attempt: int) -> list[int]:
    """The ranks that have a log in an attempt."""
    names = (re.fullmatch(r"rank-(\d+)\.log", path.name) for path in run.attempt_logs(attempt).glob("rank-*.log"))
    return sorted(int(found[1]) for found in names if found)


def job_output(run: RunDir) -> Path | None:
    """What the newest submission's first task prints, if that is there."""
    from launcher.tail import newest_rows

    log = next(newest_rows(run.submissions), {}).get("log")
    path = Path(log) if isinstance(log, str) else None
    return path if path is not None and path.is_file() else None


def _list(numbers: list[int]) -> str:
    return f"ranks {', '.join(map(str, numbers))}" if len(numbers) > 1 else f"rank {numbers[0]}" if numbers else "none yet"


def _aside(text: str) -> None:
    """A line that is no log's: not among what may be piped on."""
    with suppress(OSError):
        sys.stdout.flush()
        print(text, file=sys.stderr, flush=True)
