"""What the fork server does first: importing this module ties its process, and each worker it forks, to the launcher.

``multiprocessing`` offers no other moment than an import. Without it

* the fork server outlives a killed launcher for as long as a worker lives (each worker holds the write end of the pipe
  whose closing ends the server), so that workers' parent-death signals never come;
* a Ctrl-C reaches the workers from the terminal besides through the launcher, as two requests instead of one;
* a SIGTERM or SIGUSR1 to the whole job (``scancel``) ends the fork server, and with it the run.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable

from trainer.stop import REQUEST

LAUNCHER_PID = "OSTINATO_LAUNCHER_PID"
SERVER = "OSTINATO_FORKSERVER"
STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)
PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """End this process by SIGKILL when the one that started it ends (Linux; elsewhere nothing happens)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def enter(entry: Callable[[str], int], arguments: tuple[str]) -> int:
    """Run a worker's function, tied to the fork server: torch's own wrapper has just asked for a SIGINT, which a worker may ignore.

    The argument comes in a tuple because the elastic agent would replace ``$`` in a string.
    """
    die_with_parent()
    return entry(*arguments)


def _guard() -> None:
    """Settle in: own session, tied to the launcher, deaf to requests that are meant for it."""
    server = os.getpid()

    def in_worker() -> None:
        # Processes that a worker forks itself run this too; it is not theirs.
        if os.getppid() == server:
            die_with_parent()
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
            REQUEST.listen()
        unblock()

    def block() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)

    def unblock() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)

    os.setsid()
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    # Between a fork and the worker's own handlers a request is held back: it would be ignored, as the server does.
    os.register_at_fork(before=block, after_in_parent=unblock, after_in_child=in_worker)
    die_with_parent()
    if os.getppid() != int(os.environ[LAUNCHER_PID]):  # the launcher ended before the line above
        os._exit(1)


if os.environ.pop(SERVER, None):  # set for the server's start alone; what a worker starts does not see it
    _guard()
