"""Attempts of a run in tenths of a second: real worker processes, forked from a server that has torch and an optimizer step behind it.

It starts ranks as the launcher does, and nothing else: whoever starts an attempt kills, waits and starts the next one.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from tests.support.jobs import ROOT, environment

POLL_S = 0.002
PR_SET_PDEATHSIG = 1


class Attempt:
    """The ranks of one attempt. Ended ones stay zombies until `wait`, so that no signal reaches a process id that is somebody else's."""

    def __init__(self, server: Server, pids: list[int], said: Path) -> None:
        self.server, self.pids, self.said = server, pids, said
        self.codes: list[int] | None = None

    def alive(self, rank: int) -> bool:
        """Whether a rank still runs."""
        try:
            status = Path(f"/proc/{self.pids[rank]}/stat").read_text()
        except OSError:
            return False
        return status.rpartition(")")[2].split()[0] not in "ZX"

    @property
    def running(self) -> bool:
        """Whether any rank does."""
        return any(self.alive(rank) for rank in range(len(self.pids)))

    def kill(self, ranks: Iterable[int] | None = None, number: int = signal.SIGKILL) -> None:
        """Send a signal to some ranks, or to all."""
        assert self.codes is None, "they are gone"
        for rank in ranks if ranks is not None else range(len(self.pids)):
            os.kill(self.pids[rank], number)

    def wait(self, limit_s: float = 60.0) -> list[int]:
        """Their exit codes, negative for a signal.

        Raises:
            TimeoutError: some still ran after so long; they are killed.
        """
        if self.codes is not None:
            return self.codes
        limit = time.monotonic() + limit_s
        while (late := self.running) and time.monotonic() < limit:
            time.sleep(POLL_S)
        slow = [rank for rank in range(len(self.pids)) if late and self.alive(rank)]
        if late:
            self.kill()
        self.codes = self.server.ask({"order": "reap"})
        if slow:
            raise TimeoutError(f"ranks {slow} still ran after {limit_s:.0f} s: {self.text()[-300:]}")
        return self.codes

    def text(self) -> str:
        """What the ranks printed."""
        return self.said.read_text(encoding="utf-8", errors="replace")


class Server:
    """Forks attempts, one at a time; ends with whoever started it."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.attempts"],
            cwd=ROOT,
            env=environment(OMP_NUM_THREADS="1"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.folder = tempfile.TemporaryDirectory(prefix="attempts-")
        self.count = 0

    def __enter__(self) -> Server:
        self.ask({"order": "reap"})  # answered when everything is loaded
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None) -> None:
        self.process.stdin.close()  # type: ignore[union-attr]
        self.process.wait(timeout=30)
        self.process.stdout.close()  # type: ignore[union-attr]
        self.folder.cleanup()

    def start(self, run_dir: Path, size: int = 3) -> Attempt:
        """Start ``trainer.worker.run(run_dir)`` on so many ranks; the attempt before must have been waited for."""
        self.count += 1
        here = Path(self.folder.name) / f"{self.count}"
        here.mkdir()
        said = here / "said.txt"
        order = {"order": "start", "run_dir": str(run_dir), "size": size, "store": str(here / "store"), "said": str(said)}
        return Attempt(self, self.ask(order), said)

    def ask(self, order: dict[str, Any]) -> Any:
        """Send one line, and read the answer's."""
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps(order) + "\n")
        stdin.flush()
        line = stdout.readline()
        if not line:
            raise RuntimeError(f"the server of attempts ended with exit code {self.process.wait()}")
        return json.loads(line)


def serve(orders: IO[str], answers: IO[str]) -> None:
    """The server: one line in, one line out, until its starter is gone."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    _preload()
    pids: list[int] = []
    for line in orders:
        order = json.loads(line)
        if order["order"] == "start":
            pids = answer = [_fork(order, rank) for rank in range(order["size"])]
        else:
            answer = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
            pids = []
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _preload() -> None:
    """Do once what every worker would: imports, also those of the first optimizer step. No backward: its threads do not survive a fork."""
    import torch
    import torch._dynamo

    import tests.chaos.workload  # noqa: F401
    import trainer.worker  # noqa: F401

    torch.set_num_threads(1)
    weight = torch.nn.Parameter(torch.zeros(2))
    weight.grad = torch.zeros(2)
    for kind in (torch.optim.SGD, torch.optim.AdamW):
        kind([weight], lr=0.1).step()


def _fork(order: dict[str, Any], rank: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        code = _be(order, rank)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def _be(order: dict[str, Any], rank: int) -> int:
    """One rank, with the variables that our launcher sets."""
    said = os.open(order["said"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for target, source in ((0, nothing), (1, said), (2, said)):
        os.dup2(source, target)
    size = str(order["size"])
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=size,
        LOCAL_WORLD_SIZE=size,
        OSTINATO_STORE=order["store"],
        OSTINATO_LAUNCHED="1",
        GLOO_SOCKET_IFNAME="lo",
    )
    from trainer import worker

    return worker.run(order["run_dir"])


if __name__ == "__main__":
    serve(sys.stdin, sys.stdout)
