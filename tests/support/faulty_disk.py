"""Work on a disk that fails: where it kills, in a forked child, so that thousands of cases cost no more than a fork each."""

from __future__ import annotations

import json
import logging
import os
import signal
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.support.file_faults import KILLS, Disk
from trainer.errors import OstinatoError

LIMIT_S = 60


@dataclass(frozen=True)
class Ending:
    """How a child ended.

    Args:
        killed: by SIGKILL.
        error: the exception's class and text; None: there was none.
        ours: the exception is an OSError, or a class of ours.
        strange: it ended neither by itself nor by SIGKILL, and how.
    """

    killed: bool
    error: str | None = None
    ours: bool = True
    strange: str | None = None


def ending_of(work: Callable[[], object], disk: Disk) -> Ending:
    """Do the work on that disk, in a child where the fault is a kill, and say how it went."""
    if disk.fault in KILLS:
        return in_child(work, disk)
    logging.disable()
    try:
        with disk.installed():
            work()
    except Exception as fault:
        return Ending(killed=False, **_told(fault))
    finally:
        logging.disable(logging.NOTSET)
    return Ending(killed=False)


def _told(fault: BaseException) -> dict[str, Any]:
    return {"error": f"{type(fault).__name__}: {fault}", "ours": isinstance(fault, (OSError, OstinatoError))}


def in_child(work: Callable[[], object], disk: Disk) -> Ending:
    """Fork, do the work on that disk, and say how it went."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside threads; the child touches none of them
        child = os.fork()
    if child == 0:
        _child(work, disk, writer)
    os.close(writer)
    with open(reader, "rb") as pipe:
        told = json.loads(pipe.read() or b"{}")
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return Ending(killed=True)
    return Ending(killed=False, **told, strange=f"its wait status is {status}" if status else None)


def _child(work: Callable[[], object], disk: Disk, writer: int) -> None:
    """The rest of a child's life. It must never come back to the caller's frames."""
    told: dict[str, Any] = {}
    try:
        logging.disable()
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(LIMIT_S)
        try:
            with disk.installed():
                work()
        except BaseException as fault:
            told = _told(fault)
        os.write(writer, json.dumps(told).encode())
        os._exit(0)
    finally:
        os._exit(70)
