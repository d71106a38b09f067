"""Run a job on this machine: check, prepare the run folder, start the workers, tell how it ended."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from launcher import forkserver
from launcher.closing import closing_lines, done_line, newest, with_outcomes
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

        if job.device == "cuda":
            pick_device(job.device, 0, job.workers)  # says here what a worker would say later, beside a new run folder
        prepared = prepare(job.config, job.overrides, world_size=job.workers, fresh=job.fresh, hold=True)
        print(prepared.message, flush=True)
        try:
            if prepared.status == "finished":
                print(done_line(folder), flush=True)
                return DONE
            attempt, verdict = _attempts(job, folder, requests)
        finally:
            prepared.lock.release()
    lines = closing_lines(folder, attempt, verdict)
    print("\n".join(lines), file=sys.stdout if verdict.ended_well else sys.stderr, flush=True)
    return verdict.exit_code


def _attempts(job: Job, folder: RunDir, requests: Requests) -> tuple[int, Verdict]:
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
            restart = after(verdict, in_vain, workers, _fitting(config, job.device), config.supervision)
        if restart is None:
            if not verdict.ended_well:
                folder.event("failed", attempt=attempt, exit_code=verdict.exit_code, reason=verdict.lines[0] if verdict.lines else "")
            return attempt, verdict
        more = f" on {restart.workers} worker{'' if restart.workers == 1 else 's'}" if restart.workers != workers else ""
        where = newest(folder) or "the beginning"
        for line in closing_lines(folder, attempt, verdict):
            print(line, file=sys.stderr)
        print(f"starting again{more}, from {where}", file=sys.stderr, flush=True)
        folder.event("restarted", attempt=attempt, exit_code=verdict.exit_code, reason=verdict.lines[0], workers=restart.workers)
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
    if requests.abandoned:
        return Verdict(LOST, (ABANDONED,))
    if result.too_late:
        return Verdict(
            STOPPED, (f"ended {policy.grace_s:g} s after the request to stop (supervision.grace_s), without a new checkpoint", GO_ON)
        )
    ends = with_outcomes(folder, attempt, result.ends)
    return judge(ends, stop_requested=requests.stop, stuck=result.stuck, out_of_memory=oom_kills() > oom_kills_before)


def _fitting(config: Config, device: str) -> list[int]:
    """The numbers of workers that may play the run's virtual ranks here; a GPU may be gone."""
    ranks = config.train.virtual_ranks
    assert isinstance(ranks, int)
    devices = _count_devices() if device != "cpu" else 0
    return [number for number in divisors(ranks) if not devices or number <= devices]


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
