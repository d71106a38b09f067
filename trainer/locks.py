"""Who may work in a run folder: one start at a time, and none while workers of an earlier one still live.

Both are an ``flock``, which ends with its holder, however it ends.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import IO

from trainer.errors import RunFolderError
from trainer.files import private, refuse_link

POLL_S = 0.05
LOOK_S = 0.15  # who only looks whether a lock is held (`ostinato status`) holds it for an instant


class RunLock:
    """One process tree at a time in a run folder.

    Args:
        path: the lock's file.

    Raises:
        RunFolderError: somebody holds it, and the text says who; or it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = _locked(path)

    def take_over(self, other: RunLock) -> None:
        """Let the own file go and hold another's instead, which has come to the own file's place."""
        self.file.close()
        self.file = other.file

    @property
    def in_place(self) -> bool:
        """Whether it is still the folder's lock: held, and not moved away with another folder."""
        return not self.file.closed and _is_at(self.file, self.path)

    def release(self) -> None:
        """Let the next one in; a second call does nothing."""
        self.file.close()


def _locked(path: Path) -> IO[str]:
    """The lock's file, locked. A file that is moved away between opening and locking locks nothing any more: then again."""
    while True:
        refuse_link(path)
        try:
            file = open(path, "a+", encoding="utf-8", opener=private)  # noqa: SIM115 - held until released
        except OSError as fault:
            raise RunFolderError(f"{path}: cannot be opened ({fault.strerror}); set run.root to a folder of yours") from fault
        try:
            if not _within(LOOK_S, file.fileno(), fcntl.LOCK_EX):
                raise BlockingIOError
        except BlockingIOError as busy:
            holder = _name_in(file)
            file.close()
            raise RunFolderError(f"{path.parent}: in use by {holder}; wait for it, or stop it") from busy
        except OSError as fault:
            file.close()
            raise RunFolderError(f"{path}: cannot be locked ({fault.strerror}); set run.root to a folder on another file system") from fault
        if _is_at(file, path):
            break
        file.close()
    try:
        file.truncate(0)
        file.write(f"process {os.getpid()} on {os.uname().nodename}\n")
        file.flush()
    except OSError:
        pass  # a full disk: the lock holds without its holder's name
    return file


def _name_in(file: IO[str]) -> str:
    """Who holds a lock, as it wrote down; it may have taken it a moment ago."""
    for _ in range(10):
        file.seek(0)
        if name := file.read().strip():
            return name
        time.sleep(0.02)
    return "another process"


def _is_at(file: IO[str], path: Path) -> bool:
    mine = os.fstat(file.fileno())
    try:
        there = path.lstat()
    except FileNotFoundError:
        return False
    return (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)


class Fence:
    """Keeps a new start out of a run folder while workers of an earlier one still live: an orphan may write once more."""

    @staticmethod
    def hold(path: Path) -> None:
        """Say that this process works here, until it ends. Every worker calls it once, before it writes anything.

        Raises:
            RunFolderError: the fence cannot be opened or locked, or a new start is just passing it.
        """
        descriptor = _open_fence(path)  # never closed: the system does it when the process ends
        if not _within(2.0, descriptor, fcntl.LOCK_SH):
            os.close(descriptor)
            raise RunFolderError(f"{path.parent}: another start is taking over; this worker came too late")

    @staticmethod
    def wait(path: Path, limit_s: float) -> None:
        """Wait until no process holds the fence any more.

        Args:
            path: the fence's file.
            limit_s: the time to wait at most.

        Raises:
            RunFolderError: some still hold it; the text names them where the system tells.
        """
        if not path.parent.is_dir():
            return  # a run that was never created
        descriptor = _open_fence(path)
        try:
            if not _within(limit_s, descriptor, fcntl.LOCK_EX):
                pids = _holders(os.fstat(descriptor).st_ino)
                who = (
                    f"process{'' if len(pids) == 1 else 'es'} {', '.join(map(str, pids))}"
                    if pids
                    else "not on this machine, or not visible"
                )
                raise RunFolderError(f"{path.parent}: workers of an earlier start still run ({who}); wait for them, or end them")
        finally:
            os.close(descriptor)


def _open_fence(path: Path) -> int:
    refuse_link(path)
    try:
        return private(path, os.O_RDWR | os.O_CREAT)
    except OSError as fault:
        raise RunFolderError(f"{path}: cannot be opened ({fault.strerror}); set run.root to a folder of yours") from fault


def _within(limit_s: float, descriptor: int, kind: int) -> bool:
    """Take a lock within a time; whether it was got."""
    end = time.monotonic() + limit_s
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= end:
                return False
        time.sleep(POLL_S)


def _holders(inode: int) -> list[int]:
    """The processes of this machine that hold an flock on a file, as the kernel tells."""
    try:
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return []
    found = set()
    for line in lines:
        fields = line.split()
        # 3: FLOCK  ADVISORY  READ 4711 08:01:1234567 0 EOF; a line with "->" is one that waits
        if len(fields) >= 6 and fields[1] == "FLOCK" and fields[5].endswith(f":{inode}") and int(fields[4]) > 0:
            found.add(int(fields[4]))
    return sorted(found - {os.getpid()})
