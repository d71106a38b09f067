"""Processes that look at things for the doctor: started at once, asked one by one, and ended with all that they have started."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO, Any

import psutil

from launcher.doctor.finding import LOST, NOT_BEGUN
from launcher.doctor.probes import ENTRY, GROUPS
from launcher.failure import signal_name

LEAVE_WITHIN_S = 2.0


class Apart:
    """A group of looks in a process of its own.

    Args:
        group: which; see `launcher.doctor.probes`.
        options: what it is told.
        limit_s: how long it may take.
        env: its variables.
    """

    def __init__(self, group: str, options: Mapping[str, Any], limit_s: float, env: Mapping[str, str]) -> None:
        self.group, self.limit_s, self.end = group, limit_s, time.monotonic() + limit_s
        self.found: dict[str, dict[str, Any]] | None = None
        self.process: subprocess.Popen[str] | None = None
        self.lost = ""
        command = [sys.executable, "-m", ENTRY, group, json.dumps(options)]
        try:
            self.said = _nameless_file()
            # In a session of its own: a Ctrl-C comes to us, and we end it.
            self.process = subprocess.Popen(
                command,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=self.said,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        except OSError as fault:  # no process, no descriptor, no memory
            self.lost = f"no process could be started for it ({fault.strerror})"

    def facts(self, name: str) -> dict[str, Any]:
        """What one look has found; waits for the end of the process, or of its time."""
        if self.found is None:
            self.found = self._read()
        if name in self.found:
            return self.found[name]
        first = next(probe.name for probe in GROUPS[self.group] if probe.name not in self.found)
        return {LOST: self.lost or self._how_it_ended()} if name == first else {NOT_BEGUN: f"the look at {first} came to no end"}

    def close(self) -> None:
        """End the process and whatever it has started."""
        if self.process is None or self.process.stdout is None:
            return
        if self.process.poll() is None:
            family = []
            with suppress(psutil.Error):
                family = psutil.Process(self.process.pid).children(recursive=True)
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(LEAVE_WITHIN_S)
            self.process.kill()
            for one in family:
                with suppress(psutil.Error):
                    one.kill()
            psutil.wait_procs(family, LEAVE_WITHIN_S)
            with suppress(subprocess.TimeoutExpired):  # a process that waits for a dead disk cannot be ended by anybody
                self.process.wait(LEAVE_WITHIN_S)
        self.process.stdout.close()
        self.said.close()

    def _read(self) -> dict[str, dict[str, Any]]:
        if self.process is None:
            return {}
        # What has come to its end in time is believed, however late it is asked.
        ended = self.process.poll() is not None
        try:
            out, _ = self.process.communicate(timeout=None if ended else max(0.1, self.end - time.monotonic()))
        except subprocess.TimeoutExpired as slow:
            self.lost = f"no answer within {self.limit_s:g} s"
            out = slow.output.decode(errors="replace") if isinstance(slow.output, bytes) else slow.output or ""
        return dict(json.loads(line) for line in out.splitlines() if line.endswith("]"))

    def _how_it_ended(self) -> str:
        assert self.process is not None
        code = self.process.returncode
        if code is not None and code < 0:
            return f"the look at it ended by {signal_name(-code)}"
        said = _last_line(self.said)
        return f"the look at it ended with exit code {code}" + (f" ({said})" if said else "")


def _nameless_file() -> IO[bytes]:
    """A file that has no name anywhere; in memory, where the system has that."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("said"), "w+b")
    return tempfile.TemporaryFile()


def _last_line(file: IO[bytes]) -> str:
    file.seek(0)
    lines: Sequence[str] = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    return lines[-1][:200] if lines else ""
