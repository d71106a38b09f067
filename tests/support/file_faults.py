"""A disk that fails where it is told to: every operation that changes it is numbered, and one of them kills the process or raises.

This is the edge of the operating system, the one place where something is put in front of the real thing: `Disk.installed` wraps the
functions of `os` and `open` for the paths below one folder. `tests.chaos.disk` compares its count with strace's, so that "every operation"
is true. Linux only: what a descriptor belongs to is read from ``/proc``.
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import fcntl
import io
import os
import pathlib
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


class Fault(Enum):
    """What happens at the chosen operation."""

    KILL_BEFORE = "killed before"
    KILL_MIDDLE = "killed in the middle of"
    KILL_AFTER = "killed after"
    ENOSPC = "ENOSPC at"
    EIO = "EIO at"
    FULL = "a full disk from"
    SHORT = "a short write, then no fault, at"
    SHORT_THEN_FULL = "a short write, then a full disk, at"


KILLS = {Fault.KILL_BEFORE, Fault.KILL_MIDDLE, Fault.KILL_AFTER}
WRITES_ONLY = {Fault.KILL_MIDDLE, Fault.SHORT, Fault.SHORT_THEN_FULL}
_NEEDS_ROOM = {"open", "write", "mkdir", "fsync"}
_ONE_PATH = {"mkdir": "mkdir", "unlink": "unlink", "remove": "unlink", "rmdir": "rmdir", "chmod": "chmod", "truncate": "truncate"}
_TWO_PATHS = {"rename": "rename", "replace": "rename", "link": "link", "symlink": "symlink"}
_DESCRIPTOR = {"fsync": "fsync", "fdatasync": "fsync", "ftruncate": "truncate", "fchmod": "chmod"}


@dataclass(frozen=True)
class Operation:
    """One change of the disk.

    Args:
        kind: ``open`` (to create or cut), ``write``, ``fsync``, ``rename``, ``mkdir``, ``unlink``, ``rmdir``, ….
        path: from the watched folder; ``.`` is the folder itself.
        other: where a rename goes.
        data: what a write writes.
        offset: where it begins.
        cuts: an ``open`` that empties the file.
    """

    kind: str
    path: str
    other: str = ""
    data: bytes = b""
    offset: int = 0
    cuts: bool = False

    def __str__(self) -> str:
        return f"{self.kind} {self.path}"


class _File(io.FileIO):
    """A file opened for writing whose writes are numbered."""

    def __init__(self, disk: Disk, path: Any, mode: str) -> None:
        super().__init__(path, mode, opener=disk.open_descriptor)
        self._disk = disk

    def write(self, data: Any) -> int:
        return self._disk.write(self.fileno(), data)

    def truncate(self, size: int | None = None) -> int:
        length = self.tell() if size is None else size
        os.ftruncate(self.fileno(), length)
        return length


class _BadSector(io.FileIO):
    """A file that opens, and cannot be read."""

    def readinto(self, buffer: Any) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO), self.name)

    def readall(self) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO), self.name)


class Disk:
    """Numbers the operations below a folder, and fails at one of them.

    Args:
        root: the folder that is watched.
        fault: what happens; None: nothing, the operations are only written down.
        at: the number of the operation, from 0.
        keep: how many bytes a write that is cut leaves; None: half of them.
        unreadable: files whose content cannot be read.
    """

    def __init__(
        self, root: Path, fault: Fault | None = None, at: int = -1, *, keep: int | None = None, unreadable: frozenset[Path] = frozenset()
    ) -> None:
        self.root = os.path.realpath(root)
        self.fault, self.at, self.keep = fault, at, keep
        self.unreadable = {os.path.realpath(path) for path in unreadable}
        self.operations: list[Operation] = []
        self._full = False
        self._lock = threading.RLock()
        self._open, self._os = io.open, {name: getattr(os, name) for name in (*_ONE_PATH, *_TWO_PATHS, *_DESCRIPTOR, "open", "write")}

    @contextlib.contextmanager
    def installed(self) -> Iterator[Disk]:
        """Stand between this process and the folder."""
        wrapped: dict[str, Callable[..., Any]] = {"open": self.os_open, "write": self.write}
        wrapped |= {name: self._one_path(name) for name in _ONE_PATH} | {name: self._two_paths(name) for name in _TWO_PATHS}
        wrapped |= {name: self._descriptor(name) for name in _DESCRIPTOR}
        places: list[tuple[Any, str, Any]] = [(os, name, function) for name, function in wrapped.items()]
        places += [(builtins, "open", self.open), (io, "open", self.open)]
        accessor = getattr(pathlib, "_NormalAccessor", None)  # python 3.10 keeps its own references
        if accessor is not None:
            own = {**wrapped, "open": self.open}
            places += [(accessor, name, staticmethod(function)) for name, function in own.items() if name in vars(accessor)]
        before = [(place, name, vars(place)[name]) for place, name, _ in places]
        try:
            for place, name, function in places:
                setattr(place, name, function)
            yield self
        finally:
            for place, name, function in before:
                setattr(place, name, function)

    def _inside(self, path: Any, folder: int | None = None) -> str | None:
        """The path from the watched folder; None: it is not below it."""
        if isinstance(path, int):
            full = str(Path(f"/proc/self/fd/{path}").readlink()).removesuffix(" (deleted)")
        else:
            text = os.fsdecode(path)
            if folder is not None:
                text = os.path.join(Path(f"/proc/self/fd/{folder}").readlink(), text)  # noqa: PTH118
            full = os.path.join(os.path.realpath(os.path.dirname(text)), os.path.basename(text))  # noqa: PTH118, PTH119, PTH120
        return os.path.relpath(full, self.root) if full == self.root or full.startswith(self.root + os.sep) else None

    def _perform(self, operation: Operation, act: Callable[[], T], part: Callable[[], T] | None = None) -> T:
        """Do it, or what the fault makes of it; `part` does half of a write."""
        with self._lock:
            number = len(self.operations)
            self.operations.append(operation)
            if self._full and operation.kind in _NEEDS_ROOM:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), operation.path)
            if number != self.at or self.fault is None:
                return act()
            if self.fault is Fault.KILL_BEFORE:
                _die()
            if self.fault in (Fault.ENOSPC, Fault.FULL, Fault.EIO):
                self._full = self.fault is Fault.FULL
                code = errno.EIO if self.fault is Fault.EIO else errno.ENOSPC
                raise OSError(code, os.strerror(code), operation.path)
            self._full = self.fault is Fault.SHORT_THEN_FULL
            try:
                return part() if part is not None and self.fault in WRITES_ONLY else act()
            finally:  # also where the operation itself raises: no such file
                if self.fault in (Fault.KILL_MIDDLE, Fault.KILL_AFTER):
                    _die()

    def open(self, file: Any, mode: str = "r", buffering: int = -1, *rest: Any, **named: Any) -> Any:
        """In place of the built-in: files below the folder that are opened for writing are numbered."""
        path = None if isinstance(file, int) else self._inside(file)
        if path is not None and os.path.realpath(file) in self.unreadable:
            return io.BufferedReader(_BadSector(file)) if "b" in mode else io.TextIOWrapper(io.BufferedReader(_BadSector(file)))
        if path is None or not set(mode) & set("wax+"):
            return self._open(file, mode, buffering, *rest, **named)
        raw = _File(self, file, mode.replace("b", "").replace("t", ""))
        if buffering == 0:
            return raw
        size = buffering if buffering > 1 else max(os.fstat(raw.fileno()).st_blksize, 1)
        held: Any = io.BufferedRandom(raw, size) if "+" in mode else io.BufferedWriter(raw, size)
        return held if "b" in mode else io.TextIOWrapper(held, *rest, **named)

    def open_descriptor(self, path: Any, flags: int) -> int:
        """The opener of `_File`."""
        return self.os_open(path, flags, 0o666)

    def os_open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        """In place of `os.open`."""

        def act() -> int:
            return int(self._os["open"](path, flags, mode, dir_fd=dir_fd))

        inside = self._inside(path, dir_fd) if flags & (os.O_CREAT | os.O_TRUNC) else None
        return act() if inside is None else self._perform(Operation("open", inside, cuts=bool(flags & os.O_TRUNC)), act)

    def write(self, descriptor: int, data: Any) -> int:
        """In place of `os.write`."""
        content, real = bytes(data), self._os["write"]
        inside = self._inside(descriptor)
        if inside is None:
            return int(real(descriptor, content))
        appends = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_APPEND
        offset = os.fstat(descriptor).st_size if appends else os.lseek(descriptor, 0, os.SEEK_CUR)
        left = len(content) // 2 if self.keep is None else self.keep
        operation = Operation("write", inside, data=content, offset=offset)
        return self._perform(operation, lambda: int(real(descriptor, content)), lambda: int(real(descriptor, content[:left])))

    def _one_path(self, name: str) -> Callable[..., Any]:
        def call(path: Any, *rest: Any, dir_fd: int | None = None, **named: Any) -> Any:
            if dir_fd is not None:
                named["dir_fd"] = dir_fd
            inside = self._inside(path, dir_fd)
            if inside is None:
                return self._os[name](path, *rest, **named)
            return self._perform(Operation(_ONE_PATH[name], inside), lambda: self._os[name](path, *rest, **named))

        return call

    def _two_paths(self, name: str) -> Callable[..., Any]:
        def call(source: Any, target: Any, **named: Any) -> Any:
            inside = self._inside(target, named.get("dst_dir_fd"))
            if inside is None:
                return self._os[name](source, target, **named)
            origin = self._inside(source, named.get("src_dir_fd")) or os.fsdecode(source)
            return self._perform(Operation(_TWO_PATHS[name], origin, other=inside), lambda: self._os[name](source, target, **named))

        return call

    def _descriptor(self, name: str) -> Callable[..., Any]:
        def call(file: Any, *rest: Any) -> Any:
            inside = self._inside(file if isinstance(file, int) else file.fileno())
            if inside is None:
                return self._os[name](file, *rest)
            return self._perform(Operation(_DESCRIPTOR[name], inside), lambda: self._os[name](file, *rest))

        return call


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()
