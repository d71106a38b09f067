"""``ostinato watch``: look, draw, and look again, until the run has ended. It only reads, at most twice a second."""

from __future__ import annotations

import os
import sys
import time

from rich.console import Console
from rich.live import Live

from launcher.looking import looking
from launcher.watch.frame import frame
from launcher.watch.glance import Glance, Looker
from trainer.errors import DONE, RunFolderError
from trainer.rundir import RunDir

LOOK_EVERY_S = 0.5
SETTLED_S = 1.5
"""A run that nobody runs for so long has ended: between a stop and a restart there is a moment."""


def watch(run: str, *, once: bool = False) -> int:
    """Show a run in the terminal as it goes.

    Args:
        run: the run folder; one that is not there yet is waited for.
        once: print one frame and leave; so it is where the output is no terminal.

    Returns:
        0, also when it is left by Ctrl-C: the run goes on.

    Raises:
        RunFolderError: with `once`: no run, or it cannot be read.
    """
    looker = Looker(RunDir(run))
    with looking():
        if once or not sys.stdout.isatty():
            _print_once(looker)
        else:
            _print_last(_follow(looker))
        sys.stdout.flush()
    return DONE


def _print_once(looker: Looker) -> None:
    glance = looker.look()
    if glance.standing is None:
        raise RunFolderError(glance.problem)
    Console(file=sys.stdout).print(frame(glance, live=False))


def _follow(looker: Looker) -> Glance:
    """Draw until the run has ended; the last glance. On a screen of its own, so that a resize leaves no traces."""
    # A size in these variables is that of an earlier moment, and rich believes it more than the terminal: the head would scroll away.
    for name in ("COLUMNS", "LINES"):
        os.environ.pop(name, None)
    ended: float | None = None
    glance = looker.look()
    with Live(frame(glance), console=Console(), screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False) as live:
        while True:
            now = time.monotonic()
            ended = (ended or now) if glance.over else None
            if ended is not None and ((glance.standing is not None and glance.standing.state == "finished") or now - ended >= SETTLED_S):
                return glance
            time.sleep(LOOK_EVERY_S)
            glance = looker.look()
            live.update(frame(glance), refresh=True)


def _print_last(glance: Glance) -> None:
    """The end stays on the terminal."""
    Console().print(frame(glance, live=False))
