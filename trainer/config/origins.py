"""Where each value of a config came from, and problems as lines that say so."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from trainer.config.strict_yaml import KeyPath, one_line

COMMAND_LINE = "command line: "

Complaint = tuple[str, KeyPath, str]
"""(origin, path, message); the path is empty where the message says it all."""


@dataclass(frozen=True)
class Origins:
    """Where each value of a config came from.

    Args:
        file: the config file, as the user named it.
        lines: the line of each value in it.
        overrides: the override that set the value at a path; what is inside that value comes from there too.
    """

    file: str
    lines: dict[KeyPath, int]
    overrides: dict[KeyPath, str]

    def of(self, path: KeyPath) -> str:
        """``file:line`` or ``command line: key=value`` of a value, or of the nearest section around it."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.overrides:
                return self.overrides[path[:length]]
            if path[:length] in self.lines:
                return f"{self.file}:{self.lines[path[:length]]}"
        return f"{self.file}:1"

    def complaints(self, found: Iterable[tuple[KeyPath, str]]) -> list[Complaint]:
        """Problems at paths, with where those were set."""
        return [(self.of(path), path, message) for path, message in found]


def dotted(path: KeyPath) -> str:
    """``data.train_transforms.0.size``."""
    return ".".join(one_line(str(part), 40) for part in path)


def within(path: KeyPath, outer: Iterable[KeyPath]) -> bool:
    """Whether a path is one of the others, or inside one of them."""
    return any(path[: len(other)] == other for other in outer)


def render(complaints: Iterable[Complaint]) -> list[str]:
    """One line a complaint, each once: the file's by line number, then the command line's in their order."""
    return list(dict.fromkeys(_line(*complaint) for complaint in sorted(complaints, key=_place)))


def _line(origin: str, path: KeyPath, message: str) -> str:
    if not path or origin.startswith(f"{COMMAND_LINE}{dotted(path)}="):
        return f"{origin}: {message}"
    return f"{origin}: {dotted(path)}: {message}"


def _place(complaint: Complaint) -> tuple[bool, int]:
    origin = complaint[0]
    return (True, 0) if origin.startswith(COMMAND_LINE) else (False, int(origin.rpartition(":")[2]))
