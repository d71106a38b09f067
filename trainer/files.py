"""Files of a run: whole or not there, for their owner alone, and never written through a symbolic link."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import math
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trainer.errors import RunFolderError

TURN_WITHIN_S = 5.0


def private(path: str | Path, flags: int) -> int:
    """Open a file for its owner alone, and never through a symbolic link: an ``opener`` for `open`.

    Raises:
        OSError: ELOOP where the path is a symbolic link.
    """
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def write_atomic(path: Path, data: bytes, durable: bool = True) -> None:
    """Write a file that is there whole or not at all: beside, rename; where a power cut must not take it, with fsync before and after.

    A symbolic link with the file's name is replaced, not followed.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with contextlib.suppress(FileNotFoundError):
        partial.unlink()  # of a process with our number, long ago
    with open(partial, "xb", opener=private) as file:
        file.write(data)
        file.flush()
        if durable:
            os.fsync(file.fileno())
    partial.replace(path)
    if durable:
        fsync_folder(path.parent)


def clear_partials(folder: Path) -> None:
    """Remove what kills have left of `write_atomic` in a folder, as far as it can be removed; nobody may be writing there."""
    for partial in folder.glob(".*.partial"):
        with contextlib.suppress(OSError):
            partial.unlink()


def bytes_below(path: Path) -> int:
    """The size of a folder's files, or of a file; what vanishes or cannot be looked at counts as nothing."""
    size, inside = 0, list[Path]()
    with contextlib.suppress(OSError):
        inside = list(path.iterdir())
    for found in (path, *inside):
        with contextlib.suppress(OSError):
            facts = found.lstat()
            size += facts.st_size if stat.S_ISREG(facts.st_mode) else 0
    return size


def finite(value: Any) -> Any:
    """A value as JSON can hold it: NaN and the infinities, which JSON lacks, are null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    return [finite(inner) for inner in value] if isinstance(value, list | tuple) else value


def json_text(value: Any, indent: int | None = None) -> str:
    """A value as JSON that every reader takes: a number that is not finite is null."""
    return json.dumps(finite(value), indent=indent, allow_nan=False)


def write_json(path: Path, value: Any) -> None:
    """Write one JSON value atomically, indented for people."""
    write_atomic(path, (json.dumps(value, indent=2, sort_keys=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Read one JSON value."""
    return json.loads(path.read_text(encoding="utf-8"))


def append_jsonl(path: Path, row: dict[str, Any]) -> None:
    """Append one row in one write, so that no reader and no second writer meets half a line.

    Writers on several machines take turns: on NFS each finds the file's end for itself, and one row would be written over another.

    Raises:
        OSError: it could not be written whole; the half that was is ended by the next row's writer.
    """
    line = (json.dumps(row) + "\n").encode()
    descriptor = private(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
    try:
        _take_turn(descriptor)
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            line = b"\n" + line  # a kill or a full disk tore the row before this one
        if os.write(descriptor, line) != len(line):
            raise OSError(errno.EIO, "a row was written in part only; is the disk full?", str(path))
    finally:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # said, because a process that was forked meanwhile has the descriptor too
        os.close(descriptor)


def _take_turn(descriptor: int) -> None:
    """Lock a file for a row; without it where there are no locks, or where who has it is stopped: a row must not hold up a run."""
    end = time.monotonic() + TURN_WITHIN_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                return
            time.sleep(0.01)
        except OSError:
            return
        else:
            return


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a JSONL file, oldest first; a torn line is skipped, a missing file has no rows."""
    try:
        lines = path.read_bytes().split(b"\n")
    except (FileNotFoundError, NotADirectoryError):  # a file may be where the folder should be: whoever wants to write there says so
        return
    for line in lines[:-1]:  # what follows the last newline is torn or empty
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            yield row


def names_in(folder: int) -> list[str]:
    """What is in a folder that is held open, by name; nothing, where it was removed meanwhile."""
    return sorted(os.listdir(folder))


def is_file_in(folder: int, name: str) -> bool:
    """Whether a folder that is held open has a regular file of that name."""
    try:
        return stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def fsync_folder(path: Path) -> None:
    """Make renames and new names in a folder survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def refuse_link(path: Path) -> None:
    """Refuse a path whose last part is a symbolic link; the folders above it may be links.

    Raises:
        RunFolderError: it is one; the text says what to do.
    """
    if path.is_symlink():
        raise RunFolderError(
            f"{path}: is a symbolic link, and a run is never written through one; remove it, or set run.root to where the run is to be"
        )


def refuse_links_below(folder: Path) -> None:
    """Refuse a folder that holds a symbolic link at any depth.

    Raises:
        RunFolderError: names the first one.
    """
    for parent, folders, files in os.walk(folder, followlinks=False):
        for name in (*folders, *files):
            refuse_link(Path(parent, name))


def make_private(folder: Path) -> None:
    """Make a folder that is its owner's alone, whatever the umask; one that is there stays as it is.

    Raises:
        RunFolderError: a symbolic link is in its place.
    """
    refuse_link(folder)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        refuse_link(folder)
        if not folder.is_dir():
            raise
    else:
        folder.chmod(0o700)
