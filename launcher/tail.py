"""The newest rows of a JSONL file first, read from its end: a file of any length costs what is looked at."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK = 1 << 16


def newest_rows(path: Path, containing: bytes = b"", limit: int = 1 << 24) -> Iterator[dict[str, Any]]:
    """The rows of a JSONL file, newest first; a torn line is skipped, a missing file has no rows.

    Args:
        path: the file.
        containing: only lines with these bytes are taken apart.
        limit: how many bytes to go back at most.
    """
    for line in _lines_backwards(path, limit):
        if containing not in line:
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            yield row


def _lines_backwards(path: Path, limit: int) -> Iterator[bytes]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe in the file's place must not hold us up
    except FileNotFoundError:
        return
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise OSError(0, "not a plain file", str(path))
        end, rest = facts.st_size, b""
        first = max(0, end - limit)
        complete = False  # what follows the last newline is torn, or being written
        while end > first:
            start = max(first, end - BLOCK)
            lines = (os.pread(descriptor, end - start, start) + rest).split(b"\n")
            rest = lines[0]
            whole = lines[1:] if complete else lines[1:-1]
            complete = complete or len(lines) > 1
            yield from reversed(whole)
            end = start
        if first == 0 and complete and rest:
            yield rest
    finally:
        os.close(descriptor)
