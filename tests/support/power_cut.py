"""What a power cut may leave of a disk, from the operations that were asked of it.

The model is POSIX's, and no file system's: what was written to a file and not fsynced is there, lost, cut, or zeros; a new, renamed or
removed name that no fsync of its folder followed has happened or not, each for itself.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.file_faults import Operation

SECTOR = 512


@dataclass
class File:
    """A file's content: what is safe, and what was written since."""

    safe: bytes = b""
    now: bytes = b""
    writes: list[tuple[int, bytes] | None] = field(default_factory=list)
    """Since the last fsync; None: it was emptied."""

    def write(self, offset: int, data: bytes) -> None:
        self.now = _over(self.now, offset, data)
        self.writes.append((offset, data))

    def empty(self) -> None:
        self.now = b""
        self.writes.append(None)

    def fsync(self) -> None:
        self.safe, self.writes = self.now, []

    def after_a_crash(self, chosen: random.Random) -> bytes:
        """The content that a crash may leave."""
        what = chosen.choice(["lost", "all", "cut", "zeros", "sectors"]) if self.writes else "all"
        if what == "all":
            return self.now
        if what == "lost":
            return b"" if None in self.writes and chosen.random() < 0.5 else self.safe
        room = chosen.randint(0, sum(len(write[1]) for write in self.writes if write))
        content = self.safe
        for write in self.writes:
            if write is None:
                content = b""
                continue
            offset, data = write
            if what == "cut":
                data, room = data[:room], max(0, room - len(data))
            elif what == "zeros":
                data = bytes(len(data))
            content = _over(content, offset, data) if what != "sectors" else _sectors(content, offset, data, chosen)
        return content


@dataclass
class Folder:
    """A folder's names: those that are safe, those of now, and the changes between."""

    safe: dict[str, File | Folder] = field(default_factory=dict)
    now: dict[str, File | Folder] = field(default_factory=dict)
    changes: list[tuple[str | None, str | None, File | Folder]] = field(default_factory=list)
    """Since the last fsync: the name that goes, the name that comes, and what it names."""

    def change(self, goes: str | None, comes: str | None, what: File | Folder) -> None:
        _apply(self.now, goes, comes, what)
        self.changes.append((goes, comes, what))

    def fsync(self) -> None:
        self.safe, self.changes = dict(self.now), []

    def after_a_crash(self, path: Path, chosen: random.Random) -> None:
        """Make a folder that a crash may leave."""
        path.mkdir()
        likely, entries = chosen.choice([0.0, 0.5, 0.9, 1.0]), dict(self.safe)
        for goes, comes, what in self.changes:
            if chosen.random() < likely:
                _apply(entries, goes, comes, what)
        for name, what in entries.items():
            if isinstance(what, Folder):
                what.after_a_crash(path / name, chosen)
            else:
                (path / name).write_bytes(what.after_a_crash(chosen))


def _apply(entries: dict[str, File | Folder], goes: str | None, comes: str | None, what: File | Folder) -> None:
    if goes is not None and entries.get(goes) is what:
        del entries[goes]
    if comes is not None:
        entries[comes] = what


def _over(content: bytes, offset: int, data: bytes) -> bytes:
    return content[:offset].ljust(offset, b"\0") + data + content[offset + len(data) :] if data else content


def _sectors(content: bytes, offset: int, data: bytes, chosen: random.Random) -> bytes:
    """Some of a write's sectors, in any order."""
    for begin in range(0, len(data), SECTOR):
        if chosen.random() < 0.5:
            content = _over(content, offset + begin, data[begin : begin + SECTOR])
    return content


def replay(operations: Sequence[Operation]) -> Folder:
    """The disk after these operations, with what of it is safe. It begins with an empty folder."""
    root = Folder()
    for operation in operations:
        folder, name = _at(root, operation.path)
        if name:  # the watched folder itself was there before
            _DO[operation.kind](root, folder, name, operation)
        elif operation.kind == "fsync":
            folder.fsync()
    return root


def _mkdir(root: Folder, folder: Folder, name: str, operation: Operation) -> None:
    if name not in folder.now:
        folder.change(None, name, Folder())


def _open(root: Folder, folder: Folder, name: str, operation: Operation) -> None:
    if name not in folder.now:
        folder.change(None, name, File())
    elif operation.cuts:
        _file(folder, name).empty()


def _write(root: Folder, folder: Folder, name: str, operation: Operation) -> None:
    _file(folder, name).write(operation.offset, operation.data)


def _fsync(root: Folder, folder: Folder, name: str, operation: Operation) -> None:
    folder.now[name].fsync()


def _rename(root: Folder, folder: Folder, name: str, operation: Operation) -> None:
    target, new = _at(root, operation.other)
    assert target is folder, f"{operation}: a rename across folders is not modelled"
    folder.change(name, new, folder.now[name])


def _remove(root: Folder, folder: Folder, name: str, operation: Operation) -> None:
    if name in folder.now:
        folder.change(name, None, folder.now[name])


def _nothing(root: Folder, folder: Folder, name: str, operation: Operation) -> None:
    pass


_DO = {
    "mkdir": _mkdir,
    "open": _open,
    "write": _write,
    "fsync": _fsync,
    "rename": _rename,
    "unlink": _remove,
    "rmdir": _remove,
    "chmod": _nothing,  # whoever looks after the crash is the owner
}
"""What is not here is not modelled, and a KeyError says so."""


def _at(root: Folder, path: str) -> tuple[Folder, str]:
    """The folder that a path is in, and its name there; no name for the watched folder itself."""
    *above, name = [part for part in Path(path).parts if part != "."] or [""]
    for part in above:
        inner = root.now[part]
        assert isinstance(inner, Folder), path
        root = inner
    return root, name


def _file(folder: Folder, name: str) -> File:
    file = folder.now[name]
    assert isinstance(file, File), name
    return file
