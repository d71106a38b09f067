"""The run folder: every path of a run has one name here, and a file appears only when it is whole.

::

    runs/<name>/
      config.yaml        what was asked, every default filled in
      environment.json   one entry an attempt: versions, commit, host, devices, threads, virtual ranks, workers
      events.jsonl       created started resumed checkpointed stopped failed finished, with time and attempt
      metrics.jsonl      a line a logged step, an epoch's training and an evaluation
      system.jsonl       CPU, memory and GPU use of each rank
      tensorboard/
      checkpoints/       step-00001234/ (state.pt + manifest.json), best.json, last.json
      logs/              attempt-000/rank-0.log, attempt-000/rank-0.outcome.json
      heartbeats/        rank-0.json: step, phase, time
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from trainer.errors import RunFolderError


class RunDir:
    """The paths of one run, and the few ways to write there.

    Args:
        path: the run folder; it need not exist yet.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.environment = self.path / "environment.json"
        self.events = self.path / "events.jsonl"
        self.metrics = self.path / "metrics.jsonl"
        self.system = self.path / "system.jsonl"
        self.tensorboard = self.path / "tensorboard"
        self.checkpoints = self.path / "checkpoints"
        self.logs = self.path / "logs"
        self.heartbeats = self.path / "heartbeats"
        self.lock = self.path / "lock"
        self.fence = self.path / "fence"

    def __repr__(self) -> str:
        return f"RunDir({str(self.path)!r})"

    @property
    def name(self) -> str:
        """The run's name: the folder's last part."""
        return self.path.name

    def exists(self) -> bool:
        """Whether a run was created here: its config is the first file that is written."""
        return self.config.is_file()

    def create(self) -> None:
        """Make the folder and its rooms, readable for its owner alone.

        Raises:
            RunFolderError: there is a folder with something else in it.
        """
        if not self.exists() and (strange := self._strange()):
            raise RunFolderError(
                f"{self.path}: a folder with something else in it ({strange}) and no config.yaml, so no run; "
                "choose another run.name or run.root, or move it away"
            )
        self.path.parent.mkdir(parents=True, exist_ok=True)
        for folder in (self.path, self.checkpoints, self.logs, self.heartbeats):
            folder.mkdir(mode=0o700, exist_ok=True)

    def _strange(self) -> str | None:
        """A file or folder here that is more than the beginning of a run."""
        rooms = {room.name for room in (self.checkpoints, self.logs, self.heartbeats)}
        for entry in sorted(self.path.iterdir()) if self.path.is_dir() else []:
            ours = entry.name in (self.lock.name, self.fence.name) or (entry.name.startswith(".config.yaml.") and entry.name.endswith(".partial"))
            empty_room = entry.name in rooms and entry.is_dir() and not any(entry.iterdir())
            if not (ours or empty_room):
                return entry.name
        return None

    def attempt_logs(self, attempt: int) -> Path:
        """The folder of one attempt's logs, ``logs/attempt-000``."""
        return self.logs / f"attempt-{attempt:03d}"

    def rank_log(self, attempt: int, rank: int) -> Path:
        """The log of one rank in one attempt."""
        return self.attempt_logs(attempt) / f"rank-{rank}.log"

    def outcome(self, attempt: int, rank: int) -> Path:
        """How one rank ended: ``{"exit_code", "error", "time"}``; missing when it was killed."""
        return self.attempt_logs(attempt) / f"rank-{rank}.outcome.json"

    def stack(self, attempt: int, rank: int) -> Path:
        """Where one rank's python stacks are written when the job is stuck; a loader worker's file has its process id besides."""
        return self.attempt_logs(attempt) / f"rank-{rank}.stack.txt"

    def heartbeat(self, rank: int) -> Path:
        """The file in which one rank says where it is."""
        return self.heartbeats / f"rank-{rank}.json"

    def next_attempt(self) -> int:
        """The number of the attempt that starts now: 0 for the first."""
        taken = [int(p.name.removeprefix("attempt-")) for p in self.logs.glob("attempt-[0-9]*")]
        return max(taken, default=-1) + 1

    def event(self, name: str, **facts: Any) -> None:
        """Append one line to ``events.jsonl``."""
        append_jsonl(self.events, {"time": round(time.time(), 3), "event": name, **facts})

    def finished(self) -> bool:
        """Whether the run's newest event says that training is complete."""
        last = None
        for row in read_jsonl(self.events):
            last = row.get("event")
        return last == "finished"


class RunLock:
    """One process tree at a time in a run folder: an ``flock`` that ends with its holder, however it ends.

    Args:
        path: the lock's file.

    Raises:
        RunFolderError: somebody holds it, and the text says who; or it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        try:
            self.file: IO[str] = open(path, "a+", encoding="utf-8")  # noqa: SIM115 - held until released
        except OSError as fault:
            raise RunFolderError(f"{path}: cannot be opened ({fault.strerror}); set run.root to a folder of yours") from fault
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as busy:
            self.file.seek(0)
            holder = self.file.read().strip() or "another process"
            self.file.close()
            raise RunFolderError(f"{path.parent}: in use by {holder}; wait for it, or stop it") from busy
        except OSError as fault:
            self.file.close()
            raise RunFolderError(f"{path}: cannot be locked ({fault.strerror}); set run.root to a folder on another file system") from fault
        self.file.truncate(0)
        self.file.write(f"process {os.getpid()} on {os.uname().nodename}\n")
        self.file.flush()

    def release(self) -> None:
        """Let the next one in."""
        self.file.close()


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file that is there whole or not at all, also after a power cut: beside, fsync, rename, fsync the folder."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with open(partial, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    fsync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write one JSON value atomically, indented for people."""
    write_atomic(path, (json.dumps(value, indent=2, sort_keys=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Read one JSON value."""
    return json.loads(path.read_text(encoding="utf-8"))


def append_jsonl(path: Path, row: dict[str, Any]) -> None:
    """Append one row in one write, so that no reader and no second writer meets half a line.

    Raises:
        OSError: it could not be written whole; the half that was is ended by the next row's writer.
    """
    line = (json.dumps(row) + "\n").encode()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            line = b"\n" + line  # a kill or a full disk tore the row before this one
        if os.write(descriptor, line) != len(line):
            raise OSError(errno.EIO, "a row was written in part only; is the disk full?", str(path))
    finally:
        os.close(descriptor)


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a JSONL file, oldest first; a torn line is skipped, a missing file has no rows."""
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return
    for line in lines[:-1]:  # what follows the last newline is torn or empty
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            yield row


def fsync_folder(path: Path) -> None:
    """Make renames and new names in a folder survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
