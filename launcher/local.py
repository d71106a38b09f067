"""Run a job on this machine: check, prepare the run folder, start the workers, tell how it ended."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from launcher import forkserver
from launcher.closing import closing_lines, done_line, newest, say, with_outcomes
from launcher.failure import NOT_BEGUN, Verdict, judge
from launcher.health import Watch
from launcher.memory import oom_kills
from launcher.plan import Job, asked_workers, choose_workers, make_job, run_folder, thread_limit
from launcher.requests import Requests
from launcher.restart import after
from trainer.config.checks import divisors
from trainer.config.load import load
from trainer.config.schema import Config, SupervisionSection
from trainer.errors import DONE, LOST, STOPPED, ConfigError, OstinatoError
from trainer.rundir import RunDir, RunLock

WORKER = "trainer.worker"
GO_ON = "the same command goes on from the newest checkpoint"
ABANDONED = f"ended at once, on a second Ctrl-C; {GO_ON}"


def train(config_path: str, overrides: Sequence[str], *, nproc_per_node: str, fresh: bool, dry_run: bool, as_json: bool) -> int:
    """``ostinato train``: run a config here; the exit code.

    Raises:
        OstinatoError: what a person can mend; nothing was started.
    """
    if as_json and not dry_run:
        raise ConfigError("command line: --json: goes with --dry-run")
    # A user's own modules lie where the command is given, as with `python -m`; workers get this path handed on.
    sys.path.insert(0, str(Path.cwd()))
    job = _plan(config_path, overrides, nproc_per_node, fresh)
    if dry_run:
        print(json.dumps(job.as_json(), indent=2) if as_json else job.as_text())
        return DONE
    return run(job)


def run(job: Job) -> int:
    """Run a job to its end on this machine, through faults of the system; the exit code."""
    folder = RunDir(job.run_dir)
    if folder.lock.exists():
        # Asked before anything is loaded, and before --fresh could move the folder of a run that is under way.
        RunLock(folder.lock).release()
    os.environ.update(job.env)
    with Requests() as requests:
        if job.fresh or not folder.finished():
            forkserver.start([WORKER])
        # From here on torch is loaded, in this process and in the fork server side by side.
        from trainer.distributed import pick_device
        from trainer.prepare import prepare

        # Settled once, for all attempts: another device means other bits. It also says here what a worker would say later.
        device = pick_device(job.device, 0, job.workers).type
        job.env["OSTINATO_DEVICE"] = device
        prepared = prepare(job.config, job.overrides, world_size=job.workers, fresh=job.fresh, hold=True)
        say(prepared.message)
        try:
            if prepared.status == "finished":
                say(done_line(folder))
                return DONE
            attempt, verdict = _attempts(job, folder, requests, device)
        finally:
            prepared.lock.release()
    say("\n".join(closing_lines(folder, attempt, verdict)), error=not verdict.ended_well)
    return verdict.exit_code


def _attempts(job: Job, folder: RunDir, requests: Requests, device: str) -> tuple[int, Verdict]:
    """Start the workers, and start them again as long as the policy says so; the last attempt and how it ended."""
    config = load(folder.config).config
    workers, in_vain = job.workers, 0
    while True:
        attempt, before = folder.next_attempt(), newest(folder)
        if requests.stop:
            return attempt, Verdict(STOPPED, (NOT_BEGUN,))
        verdict = _attempt(job, folder, config.supervision, workers, requests)
        in_vain = in_vain + 1 if newest(folder) == before else 0
        restart = None
        if not requests.stop:
            restart = after(verdict, in_vain, workers, _fitting(config, device), config.supervision)
        if restart is None:
            if not verdict.ended_well:
                _note(folder, "failed", attempt=attempt, exit_code=verdict.exit_code, reason="".join(verdict.lines[:1]))
            return attempt, verdict
        more = f" on {restart.workers} worker{'' if restart.workers == 1 else 's'}" if restart.workers != workers else ""
        where = newest(folder) or "the beginning"
        # The whole report, once: what is said of many attempts must still fit on a screen.
        lines = closing_lines(folder, attempt, verdict) if in_vain < 2 else list(verdict.lines[:1])
        say("\n".join([*lines, f"starting again{more}, from {where}"]), error=True)
        _note(folder, "restarted", attempt=attempt, exit_code=verdict.exit_code, reason=verdict.lines[0], workers=restart.workers)
        requests.pause(restart.pause_s)
        workers = restart.workers


def _attempt(job: Job, folder: RunDir, policy: SupervisionSection, workers: int, requests: Requests) -> Verdict:
    from launcher.agent import run_node
    from trainer.worker import run as entry

    forkserver.start([WORKER])  # the one before may have fallen with the workers
    attempt, oom_kills_before = folder.next_attempt(), oom_kills()
    watch = Watch(folder, attempt, workers, policy)
    env = {**job.env, **thread_limit(load(folder.config).config, workers, len(os.sched_getaffinity(0)))}
    result = run_node(entry, job.run_dir, workers=workers, env=env, requests=requests, watch=watch, grace_s=policy.grace_s)
    ends = with_outcomes(folder, attempt, result.ends)
    verdict = judge(ends, stop_requested=requests.stop, stuck=result.stuck, out_of_memory=oom_kills() > oom_kills_before)
    if verdict.ended_well or not (requests.abandoned or result.too_late):
        return verdict
    if requests.abandoned:
        return Verdict(LOST, (ABANDONED,))
    late = f"ended {policy.grace_s:g} s after the request to stop (supervision.grace_s), before all had left"
    return Verdict(STOPPED, (late, GO_ON))


def _note(folder: RunDir, event: str, **facts: object) -> None:
    """An event; a full disk must not keep a run from ending as it should."""
    with suppress(OSError):
        folder.event(event, **facts)


def _fitting(config: Config, device: str) -> list[int]:
    """The numbers of workers that may play the run's virtual ranks here; a GPU may be gone."""
    ranks = config.train.virtual_ranks
    assert isinstance(ranks, int)
    return [number for number in divisors(ranks) if device == "cpu" or number <= _count_devices()]


def _plan(config_path: str, overrides: Sequence[str], nproc_per_node: str, fresh: bool) -> Job:
    asked = asked_workers(nproc_per_node)
    config = load(config_path, overrides).config
    devices = _count_devices() if asked is None and config.hardware.device != "cpu" else 0
    workers = choose_workers(asked, devices, _virtual_ranks(config, RunDir(run_folder(config, config_path)), fresh))
    cpus = len(os.sched_getaffinity(0))
    return make_job(config, config_path, overrides, workers=workers, cpus=cpus, environ=os.environ, fresh=fresh)


def _virtual_ranks(config: Config, folder: RunDir, fresh: bool) -> int | None:
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
