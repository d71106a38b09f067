"""What is looked at, by groups. A group runs in a process of its own, so that a crash or a hang in one look is only that look's."""

from __future__ import annotations

import atexit
import importlib
import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any, NamedTuple

from launcher.doctor.finding import fault_facts
from launcher.in_forkserver import die_with_parent

ENTRY = "launcher.doctor.probes"


class Probe(NamedTuple):
    """A function that gathers the facts of one look; it takes the options and returns plain types."""

    name: str
    module: str
    function: str


GROUPS: dict[str, tuple[Probe, ...]] = {
    "machine": (
        Probe("python", "launcher.doctor.software", "look_at_python"),
        Probe("memory", "launcher.doctor.machine", "look_at_memory"),
        Probe("cores", "launcher.doctor.machine", "look_at_cores"),
        Probe("open files", "launcher.doctor.machine", "look_at_open_files"),
        Probe("shared memory", "launcher.doctor.machine", "look_at_shared_memory"),
        Probe("temporary files", "launcher.doctor.machine", "look_at_temporary_files"),
        Probe("extras", "launcher.doctor.software", "look_at_extras"),
    ),
    "disk": (Probe("disk", "launcher.doctor.disk", "look_at_disk"),),
    # The name last: a name server that does not answer takes its time.
    "network": (
        Probe("loopback", "launcher.doctor.network", "look_at_loopback"),
        Probe("port", "launcher.doctor.network", "look_at_port"),
        Probe("host name", "launcher.doctor.network", "look_at_host_name"),
    ),
    "slurm": (Probe("Slurm", "launcher.doctor.cluster", "look_at_slurm"),),
    "torch": (
        Probe("torch", "trainer.diagnosis", "look_at_torch"),
        Probe("CUDA", "trainer.diagnosis", "look_at_cuda"),
        Probe("torchvision", "trainer.diagnosis", "look_at_torchvision"),
    ),
    "workers": (
        Probe("two workers", "launcher.doctor.working", "let_two_workers_talk"),
        Probe("exactness", "launcher.doctor.working", "train_on_one_and_on_two"),
    ),
}


def answers(group: str, options: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Look at one thing of a group after the other: its name and its facts, or what kept the look from an answer."""
    for probe in GROUPS[group]:
        try:
            look = getattr(importlib.import_module(probe.module), probe.function)
            yield probe.name, look(options)
        except Exception as fault:
            yield probe.name, fault_facts(fault)


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)  # on the way out each look removes what it has made


def main() -> int:
    """The process of one group: a line of JSON for each look as soon as there is one. What libraries print goes to stderr."""
    die_with_parent()
    signal.signal(signal.SIGTERM, _leave)
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)
        for name, facts in answers(sys.argv[1], json.loads(sys.argv[2])):
            print(json.dumps([name, facts]), file=out, flush=True)
    sys.stderr.flush()
    atexit._run_exitfuncs()  # what has to be tidied up
    os._exit(0)  # taking torch apart gains nothing, and could fail


if __name__ == "__main__":
    raise SystemExit(main())
