"""Run a job on this machine, alone or as one of its nodes: check, prepare the run folder, start the workers, tell how it ended."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from launcher import forkserver
from launcher.attempts import WORKER, follow, lead
from launcher.closing import closing_lines, done_line, say
from launcher.failure import NOT_BEGUN, Verdict
from launcher.plan import Job, Seat, asked_workers, choose_workers, make_job, run_folder
from launcher.requests import Requests
from trainer.config.load import load
from trainer.config.schema import Config
from trainer.errors import DONE, LOST, STOPPED, ConfigError, OstinatoError
from trainer.rundir import RunDir, RunLock

if TYPE_CHECKING:
    from launcher.nodes import Crew


class _Stopped(OstinatoError):
    """A request to stop came before there was anything to stop."""

    exit_code = STOPPED


def train(config_path: str, overrides: Sequence[str], *, nproc_per_node: str, fresh: bool, dry_run: bool, as_json: bool, seat: Seat) -> int:
    """``ostinato train``: run a config here; the exit code.

    Raises:
        OstinatoError: what a person can mend; nothing was started.
    """
    if as_json and not dry_run:
        raise ConfigError("command line: --json: goes with --dry-run")
    # A user's own modules lie where the command is given, as with `python -m`; workers get this path handed on.
    sys.path.insert(0, str(Path.cwd()))
    job = _plan(config_path, overrides, nproc_per_node, fresh, seat)
    if dry_run:
        print(json.dumps(job.as_json(), indent=2) if as_json else job.as_text())
        return DONE
    return run(job)


def run(job: Job) -> int:
    """Run a job to its end, through faults of the system; the exit code."""
    with Requests() as requests:
        return carry_out(job, requests)[1].exit_code


def carry_out(job: Job, requests: Requests) -> tuple[str, Verdict]:
    """Run a job to its end; how it ended, and what was said about it."""
    folder = RunDir(job.run_dir)
    # Taken before anything is loaded and before other nodes are waited for: from here on who asks sees that the run is under way, and
    # a stop finds whom to ask. What is not there yet is made, and locked, when all is checked.
    lock = RunLock(folder.lock) if folder.lock.exists() and job.seat.rank == 0 else None
    try:
        os.environ.update(job.env)
        if job.fresh or job.seat.size > 1 or not folder.finished():
            forkserver.start([WORKER])
        # From here on torch is loaded, in this process and in the fork server side by side.
        crew = _meet(job, folder, requests)
        try:
            return _lead(job, folder, requests, crew, lock) if crew.leads else _follow(job, folder, requests, crew)
        finally:
            crew.part()
    finally:
        if lock is not None:
            lock.release()


def _meet(job: Job, folder: RunDir, requests: Requests) -> Crew:
    if job.seat.size > 1:  # torch is loaded next: its store would tell of a lost node by thirty lines of C++, and we by one
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from launcher.nodes import Crew
    from launcher.roll_call import meet

    if job.seat.size == 1:
        return Crew()

    def meanwhile() -> None:
        if requests.stop:
            raise _Stopped(NOT_BEGUN)

    config = load(job.config, job.overrides).config
    return meet(job.seat, job.per_node, within_s=config.supervision.start_within_s, meanwhile=meanwhile)


def _lead(job: Job, folder: RunDir, requests: Requests, crew: Crew, lock: RunLock | None) -> tuple[str, Verdict]:
    """Node 0: what it decides, all do."""
    from trainer.distributed import pick_device
    from trainer.prepare import prepare

    code = LOST  # what the others leave with if this node dies of something that nobody has thought of
    try:
        # Settled once, for all attempts: another device means other bits. It also says here what a worker would say later.
        job.env["OSTINATO_DEVICE"] = pick_device(job.device, 0, job.per_node).type
        cpus = len(os.sched_getaffinity(0)) * crew.size
        prepared = prepare(job.config, job.overrides, world_size=job.workers, cpus=cpus, fresh=job.fresh, hold=True, lock=lock)
        say(prepared.message)
        try:
            if prepared.status == "finished":
                code, text = DONE, done_line(folder)
                say(text)
                return text, Verdict(DONE)
            attempt, verdict = lead(job, folder, requests, crew, _count_devices)
        finally:
            prepared.lock.release()
        code, text = verdict.exit_code, "\n".join(closing_lines(folder, attempt, verdict))
        say(text, error=not verdict.ended_well)
        return text, verdict
    except OstinatoError as fault:
        code = fault.exit_code
        raise
    finally:
        crew.finish(code)


def _follow(job: Job, folder: RunDir, requests: Requests, crew: Crew) -> tuple[str, Verdict]:
    """Another node: it waits until node 0 has prepared the run folder, and does as it is told."""
    from trainer.distributed import pick_device

    device, fault = "", ""
    try:
        device = pick_device(job.device, 0, job.per_node).type
    except OstinatoError as problem:
        fault = str(problem)
    say(f"{crew.name_of(crew.rank)}: with {crew.name_of(0)}, which tells how it goes")
    code = follow(job, folder, requests, crew, device, fault)
    return "", Verdict(code)


def _plan(config_path: str, overrides: Sequence[str], nproc_per_node: str, fresh: bool, seat: Seat) -> Job:
    asked = asked_workers(nproc_per_node)
    config = load(config_path, overrides).config
    devices = _count_devices() if asked is None and config.hardware.device != "cpu" else 0
    workers = choose_workers(asked, devices, virtual_ranks(config, RunDir(run_folder(config, config_path)), fresh), seat.size)
    cpus = len(os.sched_getaffinity(0))
    return make_job(config, config_path, overrides, workers=workers, cpus=cpus, environ=os.environ, fresh=fresh, seat=seat)


def virtual_ranks(config: Config, folder: RunDir, fresh: bool) -> int | None:
    """The number that is fixed already: by the config, or by the run's first start."""
    ranks = config.train.virtual_ranks
    if ranks == "auto" and not fresh and folder.exists():
        try:
            ranks = load(folder.config).config.train.virtual_ranks
        except OstinatoError:
            return None  # prepare() says what is wrong with that file
    return None if ranks == "auto" else ranks


def _count_devices() -> int:
    """CUDA devices; where the machine shows none, torch is not loaded to learn that."""
    shown = any(entry.name.startswith(("nvidia", "dxg")) for entry in Path("/dev").iterdir())
    if not shown:
        return 0
    from launcher.agent import count_devices

    return count_devices()
