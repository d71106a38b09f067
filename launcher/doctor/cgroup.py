"""What this process's control groups allow it, in version 1 and 2: memory, and the time of so many processors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from launcher.memory import field

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")


class MemoryLimit(NamedTuple):
    """The tightest limit: its size, and what is left of it. What the kernel keeps of files and can drop at once counts as left."""

    limit: int
    left: int


def memory_limit(proc: Path = PROC, cgroups: Path = CGROUPS) -> MemoryLimit | None:
    """The limit on memory with the least left; None: there is none, or none that can be seen."""
    found = []
    for folder in _folders("memory", proc, cgroups):
        for limit_name, used_name, droppable in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            limit, used = _number(folder / limit_name), _number(folder / used_name)
            if limit is not None and used is not None and limit < 1 << 60:  # version 1 says a huge number where it has no limit
                found.append(MemoryLimit(limit, max(0, limit - max(0, used - field(folder / "memory.stat", droppable)))))
    return min(found, key=lambda one: one.left, default=None)


def cpu_quota(proc: Path = PROC, cgroups: Path = CGROUPS) -> float | None:
    """The time of how many processors may be used; None: there is no limit, or none that can be seen."""
    found = []
    for folder in _folders("cpu", proc, cgroups):
        with suppress(OSError, ValueError, ZeroDivisionError):
            quota, _, period = (folder / "cpu.max").read_text().partition(" ")
            found.append(int(quota) / int(period))  # "max" is no number
        quota_us, period_us = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
        if quota_us is not None and period_us and quota_us > 0:
            found.append(quota_us / period_us)
    return min(found, default=None)


def _folders(controller: str, proc: Path, cgroups: Path) -> Iterator[Path]:
    """This process's group and all around it: each has a say. In a container the path may not be visible, and the root is its own."""
    with suppress(OSError):
        for line in (proc / "self" / "cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "":
                roots = [cgroups, cgroups / "unified"]
            elif controller in controllers.split(","):
                roots = [cgroups / controllers, cgroups / controller]
            else:
                continue
            for root in dict.fromkeys(root for root in roots if root.is_dir()):
                place = root / path.lstrip("/")
                yield from (folder for folder in (place, *place.parents) if folder.is_relative_to(root) and folder.is_dir())


def _number(path: Path) -> int | None:
    with suppress(OSError, ValueError):
        return int(path.read_text())
    return None
