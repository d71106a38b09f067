"""A process that has torch loaded and forks workers: it loads while the launcher does, so that workers start at once."""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import forkserver
from pathlib import Path
from types import ModuleType

from launcher.in_forkserver import LAUNCHER_PID, SERVER
from trainer.errors import ConfigError

# Loaded once here instead of in each worker: what unpickling a worker's task imports, and what the deterministic switch and the
# first optimizer import (0.85 s of one core; with 4 workers on 2 cores the first step comes 1 s sooner).
PRELOADED = (
    "torch.distributed.elastic.multiprocessing.api",
    "torch.multiprocessing.spawn",
    "torch._dynamo",
    "torch._inductor.config",
)


@contextmanager
def nameless_main() -> Iterator[None]:
    """Within it, new processes do not import the launcher's main module again.

    ``multiprocessing`` tells each child to run the parent's main script, here the ``ostinato`` command with its command
    line parser: 0.1 s a worker for nothing, as no task of ours lives there. A main module without a file and a spec is left alone.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def _where_the_code_is() -> Iterator[None]:
    """Within it, the folder of a job's frozen code is the present one.

    ``python -c``, which the server is, looks for modules in the folder in which it starts before all others, up to Python 3.10 whatever
    PYTHONSAFEPATH says. Workers go back to the launcher's folder by themselves.
    """
    here, frozen = Path.cwd(), os.environ.get("OSTINATO_FROZEN")
    if frozen is not None:
        os.chdir(frozen)
    try:
        yield
    finally:
        os.chdir(here)


def start(modules: Sequence[str]) -> None:
    """Start the fork server with these modules loaded, and return at once. Call it from the main thread.

    The kernel ends the server when the *thread* that started it ends, hence the main thread.

    Raises:
        ConfigError: the folder for temporary files has too long a name for its socket.
    """
    if multiprocessing.parent_process() is not None:
        raise RuntimeError("the fork server belongs to a launcher, and this is a worker")
    os.environ[LAUNCHER_PID] = str(os.getpid())
    os.environ[SERVER] = "1"
    try:
        forkserver.set_forkserver_preload(["launcher.in_forkserver", *modules, *PRELOADED])
        with nameless_main(), _where_the_code_is():
            forkserver.ensure_running()
    except OSError as fault:
        if "AF_UNIX" not in str(fault):  # python's own complaint, which has no number
            raise
        raise ConfigError(f"TMPDIR={tempfile.gettempdir()}: too long a path for a socket in it; set it to a shorter one") from fault
    finally:
        # Only the server itself may take the name for its own.
        del os.environ[SERVER]
