"""Run a job on this machine: check, prepare the run folder, start the workers, tell how it ended."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from launcher import forkserver
from launcher.closing import closing_lines, done_line, with_outcomes
from launcher.failure import Verdict, judge
from launcher.plan import Job, asked_workers, choose_workers, make_job, run_folder
from trainer.config.load import load
from trainer.config.schema import Config
from trainer.errors import DONE, LOST, ConfigError, OstinatoError
from trainer.rundir import RunDir, RunLock

WORKER = "trainer.worker"
ABANDONED = "ended at once, on a second Ctrl-C; the same command goes on from the newest checkpoint"


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
    """Run a job to its end on this machine; the exit code."""
    folder = RunDir(job.run_dir)
    if folder.lock.exists():
        # Asked before anything is loaded, and before --fresh could move the folder of a run that is under way.
        RunLock(folder.lock).release()
    os.environ.update(job.env)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # While torch is loaded a KeyboardInterrupt can vanish in one of its `except` clauses. Nothing runs yet that would have to be
        # stopped in good order, so the system may end this process; the fork server goes with it.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    if job.fresh or not folder.finished():
        forkserver.start([WORKER])
    # From here on torch is loaded, in this process and in the fork server side by side.
    from launcher.agent import run_node
    from trainer.distributed import pick_device
    from trainer.prepare import prepare

    if job.device == "cuda":
        pick_device(job.device, 0, job.workers)  # says here what a worker would say later, beside a new run folder
    prepared = prepare(job.config, job.overrides, world_size=job.workers, fresh=job.fresh)
    print(prepared.message, flush=True)
    if prepared.status == "finished":
        print(done_line(folder), flush=True)
        return DONE
    lock = RunLock(folder.lock)
    try:
        if folder.finished():  # another start was quicker, and is through
            print(f"run {folder.name}: finished already", flush=True)
            return DONE
        from trainer.worker import run as entry

        attempt = folder.next_attempt()
        result = run_node(entry, job.run_dir, workers=job.workers, env=job.env)
        if result.abandoned:
            verdict = Verdict(LOST, (ABANDONED,))
        else:
            verdict = judge(with_outcomes(folder, attempt, result.ends), stop_requested=result.stop_requested)
    finally:
        lock.release()
    lines = closing_lines(folder, attempt, verdict)
    print("\n".join(lines), file=sys.stdout if verdict.ended_well else sys.stderr, flush=True)
    return verdict.exit_code


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
