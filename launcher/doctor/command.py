"""``ostinato doctor``: look at this machine, and say what works, what is missing, and what to do about it (free of torch)."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from launcher.doctor.apart import Apart
from launcher.doctor.cluster import judge_slurm
from launcher.doctor.disk import ELSEWHERE, judge_clock, judge_disk
from launcher.doctor.finding import FAILED, LOST, NOT_BEGUN, OK, WARNING, Facts, Finding, fault_facts, plural
from launcher.doctor.machine import judge_cores, judge_memory, judge_open_files, judge_shared_memory, judge_temporary_files, takes_sockets
from launcher.doctor.network import judge_host_name, judge_loopback, judge_port
from launcher.doctor.probes import answers
from launcher.doctor.software import WITHOUT_TORCHVISION, judge_cuda, judge_extras, judge_python, judge_torch, judge_torchvision
from launcher.doctor.working import judge_exactness, judge_two_workers
from trainer.errors import DONE, TRAINING_FAILED, ConfigError

# Seconds that a group may take. Torch may have to come over a slow network.
LIMITS = {"disk": 30.0, "network": 30.0, "slurm": 30.0, "torch": 90.0, "workers": 120.0}
COLOURS = {OK: "green", WARNING: "yellow", FAILED: "bold red"}
# By the name of a look: what to do where it came to nothing. Without these training cannot work; without the others it may.
NEEDED = {
    "torch": "install torch 2.10 or newer that is built for this machine (pytorch.org)",
    "CUDA": "hardware.device=cpu does without; nvidia-smi shows whether the driver works",
    "disk": ELSEWHERE,
    "two workers": "see the lines above",
    "exactness": "see the lines above",
}
# Here some training cannot: which, and what to do.
MISSED = {"torchvision": (WITHOUT_TORCHVISION, "install the torchvision release made for this torch")}

Judge = Callable[[Facts], "Finding | list[Finding]"]


def doctor(root: str, *, port: int | None = None, as_json: bool = False) -> int:
    """Look at everything, and print a line of each.

    Args:
        root: where the runs are to be written; nothing is left there.
        port: the port at which several machines are to meet; None: the usual one.
        as_json: print a list.

    Returns:
        The exit code: 0, or `TRAINING_FAILED` where training cannot work.
    """
    if not root:
        raise ConfigError("command line: --root: it is empty; name a folder")
    found = []
    with _ending_by_sigterm(), contextlib.ExitStack() as stack:
        for finding in _findings({"root": root, "port": port}, stack):
            found.append(finding)
            if not as_json:
                _show(finding)
    if as_json:
        print(json.dumps([finding.as_json() for finding in found], indent=2))
    else:
        print(closing(found))
    return TRAINING_FAILED if any(finding.state == FAILED for finding in found) else DONE


def _findings(options: Mapping[str, Any], stack: contextlib.ExitStack) -> Iterator[Finding]:
    """The lines in their order, each as soon as it is known. What takes long begins first; only the disk's pace is taken in quiet."""
    machine = dict(answers("machine", options))
    room = _room(stack)
    disk = _apart("disk", options, dict(os.environ), stack)
    disk.facts("disk")
    groups = {name: _apart(name, options, _variables(name, room), stack) for name in ("torch", "network", "slurm")}
    if room is not None:
        groups["workers"] = _apart("workers", {**options, "room": str(room)}, _variables("workers", room), stack)
    yield from lines("python", machine["python"], judge_python)
    torch = groups["torch"].facts("torch")
    without = {NOT_BEGUN: "torch does not work"} if LOST in torch else None
    yield from lines("torch", torch, judge_torch)
    for name, judge in _SOFTWARE:
        yield from lines(name, without or groups["torch"].facts(name), judge)
    for name, judge in _MACHINE:
        yield from lines(name, machine[name], judge)
    yield from lines("disk", disk.facts("disk"), judge_disk)
    yield judge_clock(disk.facts("disk"), time.time())
    for name, judge in _NETWORK:
        yield from lines(name, groups["network"].facts(name), judge)
    for name, judge in _WORKERS:
        nowhere = {NOT_BEGUN: "there is nowhere to put temporary files"}
        yield from lines(name, without or (groups["workers"].facts(name) if room is not None else nowhere), judge)
    yield from lines("Slurm", groups["slurm"].facts("Slurm"), judge_slurm)
    yield from lines("extras", machine["extras"], judge_extras)


_SOFTWARE: tuple[tuple[str, Judge], ...] = (("torchvision", judge_torchvision), ("CUDA", judge_cuda))
_MACHINE: tuple[tuple[str, Judge], ...] = (
    ("memory", judge_memory),
    ("cores", judge_cores),
    ("shared memory", judge_shared_memory),
    ("temporary files", judge_temporary_files),
    ("open files", judge_open_files),
)
_NETWORK: tuple[tuple[str, Judge], ...] = (("loopback", judge_loopback), ("host name", judge_host_name), ("port", judge_port))
_WORKERS: tuple[tuple[str, Judge], ...] = (("two workers", judge_two_workers), ("exactness", judge_exactness))


def lines(name: str, facts: Facts, judge: Judge) -> list[Finding]:
    """What a look's facts mean; also where there are none. Pure."""
    if NOT_BEGUN in facts:
        return [Finding(name, WARNING, f"not known, as {facts[NOT_BEGUN]}")]
    if LOST in facts:
        why = str(facts[LOST])
        if name in NEEDED:
            return [Finding(name, FAILED, why, NEEDED[name])]
        if name in MISSED:
            missed, advice = MISSED[name]
            return [Finding(name, WARNING, f"{why}; {missed}", advice)]
        return [Finding(name, WARNING, f"not known: {why}")]
    try:
        found = judge(facts)
    except Exception as fault:  # what nobody has thought of is told in this line, and the others go on
        return lines(name, fault_facts(fault), judge)
    return found if isinstance(found, list) else [found]


def closing(found: list[Finding]) -> str:
    """The last line: whether training can work."""
    warnings = sum(finding.state == WARNING for finding in found)
    also = f"; {plural(warnings, 'warning')}" if warnings else ""
    failed = [finding.check for finding in found if finding.state == FAILED]
    if failed == ["port"]:
        return f"training works on this machine alone; several cannot meet at that port{also}"
    return f"training cannot work here as it is: {', '.join(failed)}{also}" if failed else f"training works here{also}"


def _show(finding: Finding) -> None:
    text = f"{finding.found}; {finding.advice}" if finding.advice else finding.found
    state, rest = f"{finding.state:<8}", f" {finding.check:<15}  {text}"
    if not sys.stdout.isatty():
        print(f"{state}{rest}", flush=True)
        return
    from rich.console import Console
    from rich.text import Text

    Console(highlight=False).print(Text.assemble((state, COLOURS[finding.state]), rest))


def _apart(group: str, options: Mapping[str, Any], env: dict[str, str], stack: contextlib.ExitStack) -> Apart:
    started = Apart(group, options, LIMITS[group], env)
    stack.callback(started.close)
    return started


def _variables(group: str, room: Path | None) -> dict[str, str]:
    """A group's variables. What torch and the workers make goes into our room: so it is removed when they cannot do it themselves."""
    if room is None or group not in ("torch", "workers"):
        return dict(os.environ)
    variables = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(room)}  # torch makes it when it is loaded
    if takes_sockets(str(room)):  # else they must do without those characters, as `train` does
        variables["TMPDIR"] = str(room)
    return variables


def _room(stack: contextlib.ExitStack) -> Path | None:
    """A private folder that goes when all is said; None: there can be none."""
    try:
        room = tempfile.mkdtemp(prefix="ostinato-")
    except OSError:
        return None
    stack.callback(shutil.rmtree, room, ignore_errors=True)
    return Path(room)


@contextlib.contextmanager
def _ending_by_sigterm() -> Iterator[None]:
    """Within it SIGTERM ends this process as Ctrl-C does: what was started is ended, what was made is removed."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
