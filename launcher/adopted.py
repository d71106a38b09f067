"""Process 1 of a container is given the orphans of the others, and they stay zombies until it asks how they ended (free of torch)."""

from __future__ import annotations

import os
from contextlib import suppress
from multiprocessing import forkserver, resource_tracker

import psutil


def bury() -> int:
    """As process 1, take leave of orphans that have ended; how many. Call it where no process of ours is being waited for.

    Each restart leaves some, because workers and their readers outlive the fork server by a moment, and a container's number of
    processes is bounded. What `multiprocessing` has started it asks itself, and must find.
    """
    if os.getpid() != 1:
        return 0
    servers = (forkserver._forkserver, resource_tracker._resource_tracker)
    ours = {getattr(server, name, None) for server in servers for name in ("_forkserver_pid", "_pid")}
    buried = 0
    with suppress(psutil.Error):
        for child in psutil.Process().children():
            with suppress(psutil.Error, ChildProcessError):
                if child.pid not in ours and child.status() == psutil.STATUS_ZOMBIE:
                    buried += os.waitpid(child.pid, os.WNOHANG)[0] == child.pid
    return buried
