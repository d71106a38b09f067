"""Commands carried out in forks of one process that has everything loaded: hundreds of them in a minute.

``python -m tests.support.forked`` reads a JSON line for each command and answers with one; `Forks` is its other end.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.jobs import ROOT, environment

LIMIT_S = 90.0


@dataclass(frozen=True)
class Answer:
    """How a command ended: its exit code (negative: a signal; None: it did not end) and what it said."""

    code: int | None
    out: str
    err: str


class Forks:
    """The process that forks; used as a context."""

    def __enter__(self) -> Forks:
        command = [sys.executable, "-m", "tests.support.forked"]
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def run(self, entry: str, arguments: Sequence[str], folder: Path) -> Answer:
        """Carry out one command in a folder.

        Args:
            entry: ``command`` (ostinato), ``check`` (ostinato train --dry-run, and then what a start would check) or ``worker``.
            arguments: of the command line.
            folder: where it is given.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"entry": entry, "arguments": list(arguments), "folder": str(folder)}) + "\n")
        self.process.stdin.flush()
        return Answer(**json.loads(self.process.stdout.readline()))


def _command(arguments: list[str]) -> int:
    from launcher.cli import answer

    sys.argv = ["ostinato", *arguments]
    return answer()


def _check(arguments: list[str]) -> int:
    from launcher.cli import complaint
    from trainer.errors import OstinatoError
    from trainer.prepare import prepare

    code = _command(["train", *arguments, "--dry-run"])
    if code:
        return code
    try:
        prepare(arguments[0], arguments[1:], world_size=1)
    except OstinatoError as fault:
        for line in str(fault).splitlines():
            print(complaint(line), file=sys.stderr)
        return fault.exit_code
    return 0


def _worker(arguments: list[str]) -> int:
    from trainer.worker import main

    os.environ["OSTINATO_LAUNCHED"] = "1"  # what failed is in the outcome's file, from which a launcher tells it
    return main(arguments)


ENTRIES: dict[str, Callable[[list[str]], int]] = {"command": _command, "check": _check, "worker": _worker}


def _fork(request: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        pid = os.fork()
        if pid == 0:
            _in_child(request, out.fileno(), err.fileno())
        code = _wait(pid)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="backslashreplace"))
    return {"code": code, "out": texts[0], "err": texts[1]}


def _wait(pid: int) -> int | None:
    end = time.monotonic() + LIMIT_S
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def _in_child(request: dict[str, Any], out: int, err: int) -> None:
    code = 1
    try:
        os.dup2(out, 1)
        os.dup2(err, 2)
        sys.stdin.close()
        os.chdir(request["folder"])
        sys.path.insert(0, request["folder"])
        code = ENTRIES[request["entry"]](request["arguments"])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    """Load what commands load, and fork for each line."""
    import torch

    from trainer.vision import import_torchvision

    import_torchvision()
    for module in ("launcher.cli", "launcher.local", "trainer.prepare", "trainer.worker"):
        importlib.import_module(module)
    torch.set_num_threads(1)
    for line in sys.stdin:
        print(json.dumps(_fork(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
