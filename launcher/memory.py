"""Whether the kernel has killed processes for want of memory (Linux; free of torch)."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def oom_kills(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """The kernel's count of such kills: this machine's, and that of this job's control group. Only its growth means something."""
    count = field(proc / "vmstat", "oom_kill")
    with suppress(OSError):
        for line in (proc / "self" / "cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "":
                count += field(cgroups / path.lstrip("/") / "memory.events", "oom_kill")
            elif "memory" in controllers.split(","):
                count += field(cgroups / "memory" / path.lstrip("/") / "memory.oom_control", "oom_kill")
    return count


def field(path: Path, name: str) -> int:
    """A number in a file of lines ``name value``; 0: it is not there."""
    with suppress(OSError, ValueError):
        for line in path.read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    return 0
