"""submitit's executors for a machine without Slurm: a process that goes on by itself, or the process of the command (free of torch)."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from launcher.profile import Profile

# Ctrl-C in a terminal is meant for the command that looks, and its end for that command: the job has a session of its own.
APART = "import os, sys; os.setsid(); os.execv(sys.argv[1], sys.argv[1:])"


def executor(profile: Profile, jobs: Path, delay_s: int) -> Any:
    """The executor of submitit for ``local`` and ``debug``.

    Args:
        profile: what to ask for.
        jobs: the folder that gets a folder for each job.
        delay_s: so long before the time is up a stop is asked for, but not in the first half of the time.
    """
    import submitit

    local = profile.executor == "local"
    made: Any = (submitit.LocalExecutor if local else submitit.DebugExecutor)(folder=jobs / "%j")
    made.update_parameters(
        timeout_min=profile.minutes,
        gpus_per_node=profile.gpus_per_node,
        tasks_per_node=1,
        signal_delay_s=min(delay_s, profile.minutes * 30),
        setup=_apart(profile.setup, jobs) if local else list(profile.setup),
    )
    return made


def _apart(setup: Sequence[str], jobs: Path) -> list[str]:
    """The lines of shell before submitit's own: the process becomes its controller itself, and keeps its number, which is the job's.

    What the lines of the profile have to say is in the job's log.
    """
    controller = shlex.join(["exec", sys.executable, "-m", "submitit.local._local", str(jobs / "%j")])
    # The first line that fails ends it. No shell is left around the controller that would have the job's number.
    inside = "\n".join(["set -e", *setup, "export SUBMITIT_LOCAL_WITH_SHELL=", controller])
    log = f"{shlex.quote(str(jobs))}/$$"
    outside = shlex.join(["exec", sys.executable, "-I", "-c", APART, "/bin/sh", "-c", inside])
    return [f"mkdir -p {log}", f"{outside} </dev/null >>{log}/$$_0_log.out 2>&1"]
