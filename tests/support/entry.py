"""Workers small enough to see what the launcher does with them: functions of one string, a folder."""

import json
import os
import signal
import sys
import time
from pathlib import Path


def _here(folder: str) -> Path:
    return Path(folder) / f"rank-{os.environ['RANK']}.json"


def report(folder: str) -> int:
    """Write down what a worker finds."""
    facts = {
        "time": time.time(),
        "pid": os.getpid(),
        "env": dict(os.environ),
        "path": sys.path,
        "main_file": getattr(sys.modules["__main__"], "__file__", None),
        "modules": sorted(sys.modules),
        "session": os.getsid(0),
        "listens": {name: callable(signal.getsignal(getattr(signal, name))) for name in ("SIGTERM", "SIGUSR1", "SIGUSR2")},
    }
    _here(folder).write_text(json.dumps(facts))
    return 0


def wait_for_stop(folder: str) -> int:
    """Train for ever; leave with 75 on SIGTERM. Counts the requests."""
    asked = []
    signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    _here(folder).write_text(json.dumps({"pid": os.getpid()}))
    while not asked:
        time.sleep(0.01)
    time.sleep(0.5)  # a checkpoint
    _here(folder).write_text(json.dumps({"pid": os.getpid(), "asked": len(asked)}))
    return 75


def save_slowly(folder: str) -> int:
    """Train for ever; leave with 75 on SIGTERM, after a checkpoint that takes 4 s."""
    asked = []
    signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    _here(folder).write_text(json.dumps({"pid": os.getpid()}))
    while not asked:
        time.sleep(0.01)
    time.sleep(4)
    return 75


def deaf(folder: str) -> int:
    """Train for ever and listen to nobody."""
    for name in ("SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    _here(folder).write_text(json.dumps({"pid": os.getpid(), "store": os.environ["OSTINATO_STORE"]}))
    time.sleep(300)
    return 0


def slow_to_listen(folder: str) -> int:
    """Take a while before the first step, deaf and dumb as an import is."""
    _here(folder).write_text(json.dumps({"pid": os.getpid()}))
    time.sleep(300)
    return 0


def last_rank_is_killed(folder: str) -> int:
    """The last rank dies by SIGKILL; the others notice and fail."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # they are asked to end as well, perhaps before they have noticed
    _here(folder).write_text(json.dumps({"pid": os.getpid()}))
    if int(os.environ["RANK"]) == int(os.environ["WORLD_SIZE"]) - 1:
        _wait_for_the_others(folder)
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.5)
    os._exit(4)


def _wait_for_the_others(folder: str) -> None:
    while len(list(Path(folder).glob("rank-*.json"))) < int(os.environ["WORLD_SIZE"]):
        time.sleep(0.01)


def last_rank_is_killed_and_others_hang(folder: str) -> int:
    """As above, but the others hear nothing any more."""
    if int(os.environ["RANK"]) == int(os.environ["WORLD_SIZE"]) - 1:
        _here(folder).write_text("")
        _wait_for_the_others(folder)
        os.kill(os.getpid(), signal.SIGKILL)
    return deaf(folder)


def raises(folder: str) -> int:
    """A fault that no worker of ours would let out."""
    raise ValueError("the shape (3, 4) does not fit")
