"""All processes of a job, wherever they were moved to: each inherits a variable that the job's launcher was started with."""

from __future__ import annotations

import os
import subprocess
import time
import uuid
from contextlib import suppress
from pathlib import Path

import psutil

from tests.support import jobs

VARIABLE = "JOB_UNDER_TEST"
LOOPBACK = ("127.", "::1", "::ffff:127.")


def crowding() -> float:
    """How much longer than on an idle machine things may take: the load for each core, at least 1."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


class Family:
    """One start of ``ostinato …`` and every process that comes of it.

    Args:
        folder: where the command is given.
        arguments: the command line.
        variables: more of its environment.
    """

    def __init__(self, folder: Path, *arguments: str, **variables: str) -> None:
        self.mark = uuid.uuid4().hex
        self.launcher: subprocess.Popen[str] = jobs.start(folder, *arguments, **{**variables, VARIABLE: self.mark})

    def processes(self) -> list[psutil.Process]:
        """Those that live now. A zombie holds nothing, and counts as gone."""
        wanted, found = f"{VARIABLE}={self.mark}".encode(), []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with suppress(OSError, psutil.Error):
                    if wanted in (entry / "environ").read_bytes().split(b"\0"):
                        found.append(psutil.Process(int(entry.name)))
        return found

    def roles(self) -> dict[str, list[psutil.Process]]:
        """The living by what they are: launcher, fork server, worker, loader server, loader worker, tracker, other."""
        living = self.processes()
        named: dict[int, str] = {}
        facts: dict[int, tuple[int, str]] = {}
        for process in living:
            with suppress(psutil.Error):
                facts[process.pid] = process.ppid(), " ".join(process.cmdline())
        for pid in sorted(facts, key=lambda pid: _depth(pid, facts)):
            named[pid] = self._role(pid, facts, named)
        found: dict[str, list[psutil.Process]] = {}
        for process in living:
            if process.pid in named:
                found.setdefault(named[process.pid], []).append(process)
        return found

    def _role(self, pid: int, facts: dict[int, tuple[int, str]], named: dict[int, str]) -> str:
        parent, command = facts[pid]
        above = named.get(parent)
        if pid == self.launcher.pid:
            return "launcher"
        if "resource_tracker" in command:
            return "tracker"
        if "forkserver" not in command:
            return "other"
        # What a server forks keeps its command line.
        children = {"launcher": "fork server", "fork server": "worker", "worker": "loader server", "loader server": "loader worker"}
        return children.get(above or "", "other")

    def open_ports(self) -> list[str]:
        """Sockets that listen, and not to this machine alone."""
        own = {process.pid for process in self.processes()}
        return [
            f"{found.laddr.ip}:{found.laddr.port}"
            for found in psutil.net_connections(kind="inet")
            if found.pid in own and found.status == psutil.CONN_LISTEN and not found.laddr.ip.startswith(LOOPBACK)
        ]

    def left_after(self, limit_s: float) -> list[str]:
        """Who still lives after so long; returns at once when nobody does."""
        limit = time.monotonic() + limit_s * crowding()
        while living := self.processes():
            if time.monotonic() > limit:
                return [_describe(process) for process in living]
            time.sleep(0.02)
        return []

    def end(self, limit_s: float) -> tuple[int | None, str, str]:
        """Wait for the launcher: exit code (None: it hangs, and was killed with all its processes), output, errors."""
        try:
            out, err = self.launcher.communicate(timeout=limit_s)
            return self.launcher.returncode, out, err
        except subprocess.TimeoutExpired:
            self.kill()
            out, err = self.launcher.communicate()
            return None, out, err

    def kill(self) -> None:
        """Tidy up: no process of it stays."""
        for process in self.processes():
            with suppress(psutil.Error):
                process.kill()


def _depth(pid: int, facts: dict[int, tuple[int, str]]) -> int:
    depth = 0
    while pid in facts and depth < 20:
        pid, depth = facts[pid][0], depth + 1
    return depth


def _describe(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return f"{process.pid} ({' '.join(process.cmdline())[:80]})"
    return str(process.pid)
