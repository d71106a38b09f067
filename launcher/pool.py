"""Runs on this machine, a bounded number at a time, each by an ``ostinato train`` of its own (free of torch)."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from launcher.closing import say
from launcher.requests import Requests
from launcher.standing import lock_of
from trainer.errors import BAD_CONFIG, DONE, STOPPED
from trainer.rundir import RunDir

POLL_S = 0.1
PR_SET_PDEATHSIG = 1


@dataclass
class _Started:
    """A run under way."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path


class Pool:
    """Starts them in their order, and tells of each when it begins and ends.

    Args:
        commands: by the run's name, what stands after ``ostinato``.
        runs: the run folders, by name.
        logs: the folder around ``logs/``, which gets what each command prints.
        parallel: so many at a time.
    """

    def __init__(self, commands: Mapping[str, Sequence[str]], runs: Mapping[str, RunDir], logs: Path, parallel: int) -> None:
        self.commands, self.runs, self.parallel = commands, runs, parallel
        self.logs = logs
        self.waiting = deque(commands)
        self.under_way: list[_Started] = []
        self.done = 0

    def run(self) -> bool:
        """Run them all; whether somebody has asked for a stop before the end: then all have stopped with a checkpoint."""
        with Requests() as requests:
            asked, told = 0, ""
            while self.under_way or (self.waiting and not requests.stop):
                if len(requests.signals) > asked:
                    asked = len(requests.signals)
                    self._ask_to_stop(requests.abandoned)
                if not requests.stop and len(self.under_way) < self.parallel:
                    told = self._start_one(told)
                self._bury()
                time.sleep(POLL_S)
            return requests.stop

    def _start_one(self, told: str) -> str:
        """Start the first one that nobody else runs; the one that was told to be waited for."""
        for name in list(self.waiting):
            if not lock_of(self.runs[name].lock)[0]:
                self.waiting.remove(name)
                self._start(name)
                return told
        if self.waiting and not self.under_way and self.waiting[0] != told:
            say(f"{self.waiting[0]}: is run by somebody else; waiting for its end", error=True)
        return self.waiting[0] if self.waiting else told

    def _start(self, name: str) -> None:
        log = self.logs / f"{name}.log"
        command = [sys.executable, "-m", "launcher", *self.commands[name]]
        parent = os.getpid()
        with open(log, "ab", opener=lambda path, flags: os.open(path, flags, 0o600)) as out:
            # In a session of its own: Ctrl-C comes to us, and we pass it on.
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                preexec_fn=lambda: _stop_with(parent),
            )
        self.under_way.append(_Started(name, process, log))
        say(f"{name}: started, {self.done + len(self.under_way)} of {len(self.commands)}", error=True)

    def _bury(self) -> None:
        for one in [one for one in self.under_way if one.process.poll() is not None]:
            self.under_way.remove(one)
            code = one.process.returncode
            last = _last_line(one.log).partition(" · ")[0]
            if code == BAD_CONFIG and ": in use by " in last:  # somebody else was quicker, and runs it
                self.waiting.appendleft(one.name)
                continue
            self.done += 1
            if code == STOPPED and last.startswith("paused"):
                last = last.partition(";")[0]
            else:
                end = "finished" if code == DONE else "stopped" if code == STOPPED else f"failed with exit code {code}; see {one.log}"
                last = f"{end} · {last}"
            say(f"{one.name}: {last}", error=True)

    def _ask_to_stop(self, insist: bool) -> None:
        for one in self.under_way:
            with suppress(ProcessLookupError):
                one.process.send_signal(signal.SIGINT if insist else signal.SIGTERM)
                if insist:
                    one.process.send_signal(signal.SIGINT)


def _stop_with(parent: int) -> None:
    """In the new process: when the one that started it is gone, it stops with a checkpoint."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)


def _last_line(log: Path) -> str:
    with suppress(OSError), open(log, "rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
        return lines[-1] if lines else ""
    return ""
