"""What submitit runs on each node of a job: one launcher, as at home, and at its end the question whether to stand in the queue again.

submitit unpickles nothing of ours but the path of a file that says what to do.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from contextlib import suppress
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

from launcher.attempts import note
from launcher.clock import Clock
from launcher.closing import say
from launcher.failure import NOT_BEGUN, Verdict
from launcher.local import carry_out
from launcher.plan import Job, Seat, make_job
from launcher.requests import Requests
from launcher.requeue import begin_turn, job_id, restarts, stand_in_again, too_often
from launcher.standing import lock_of
from trainer.config.load import load
from trainer.errors import LOST, STOPPED, ConfigError, NodeLostError, OstinatoError, RunFolderError
from trainer.rundir import Fence, RunDir, RunLock, read_json

LOCK_WITHIN_S = 120.0
NEXT_NODE_AFTER_S = 2.0


class Task:
    """The payload of a job: callable, picklable, and nothing but a path.

    Args:
        path: a JSON file that `launcher.slurm` wrote.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def __call__(self) -> int:
        """Run this node's part; the process leaves with the exit code, so that Slurm hears it too and no result is pickled."""
        code = run(Path(self.path))
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        if "SUBMITIT_DEBUG_JOB_ID" in os.environ:  # in the process of the command itself
            return code
        os._exit(code)

    def checkpoint(self) -> Any:
        """The same again: submitit asks when a request comes before ours are heard."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def run(path: Path) -> int:
    """One node's part of a job; the exit code."""
    facts = read_json(path)
    _find_the_code(facts)
    folder, node = RunDir(facts["run_dir"]), int(os.environ.get("SLURM_NODEID", "0")) if job_id() else 0
    _keep_the_tracker()
    with Requests() as requests:
        clock = Clock(folder, requests, asks=node == 0)
        try:
            verdict = _part(facts, folder, node, requests, clock)
        except OstinatoError as fault:
            for line in str(fault).splitlines():
                say(line, error=True)
            # A node that has lost another one, or whose start was stopped, goes on in the next turn.
            verdict = Verdict(fault.exit_code, (str(fault),), restart=isinstance(fault, NodeLostError))
            if node == 0:
                note_refusal(folder, fault)
        finally:
            clock.done.set()
        if node == 0:
            stand_in_again(folder, verdict, clock.reason(verdict), bool(facts["requeue"]))
        elif verdict.restart:  # node 0 is gone, which would have done it
            time.sleep(NEXT_NODE_AFTER_S * node)
            stand_in_again(folder, verdict, clock.reason(verdict), bool(facts["requeue"]))
    return verdict.exit_code


def note_refusal(folder: RunDir, fault: OstinatoError) -> None:
    """A job that ended before it began to train says how, for whoever waits for it; not in a run that somebody else runs."""
    if fault.exit_code not in (LOST, STOPPED) and folder.exists() and not lock_of(folder.lock)[0]:
        note(folder, "failed", exit_code=fault.exit_code, reason=str(fault).splitlines()[0])


def _find_the_code(facts: dict[str, Any]) -> None:
    os.chdir(facts["cwd"])
    for folder in facts["path"]:
        sys.path.insert(0, folder)
    if facts["path"]:
        # What this process starts finds the frozen code too, before the folder in which it starts.
        before = [os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else []
        os.environ |= {"PYTHONPATH": os.pathsep.join([*facts["path"], *before]), "PYTHONSAFEPATH": "1"}
    if facts["frozen"]:
        os.environ["OSTINATO_FROZEN"] = facts["frozen"]


def _keep_the_tracker() -> None:
    """Slurm signals every process of a step; python's resource tracker would die of a request to stop, and complain at length."""
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGUSR1, signal.SIGUSR2))
    resource_tracker.ensure_running()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGUSR1, signal.SIGUSR2))


def _part(facts: dict[str, Any], folder: RunDir, node: int, requests: Requests, clock: Clock) -> Verdict:
    """From the start of this node's launcher to its end.

    Raises:
        OstinatoError: what a person can mend; or another node is lost.
    """
    job = _job(facts, folder, node)
    if node == 0:
        found = begin_turn(folder)
        if refusal := too_often(found, load(folder.config).config.supervision.max_restarts):
            say(refusal, error=True)
            note(folder, "failed", exit_code=LOST, reason=refusal)
            return Verdict(LOST, (refusal,))
        if found.stop_asked:  # before anybody listened
            os.kill(os.getpid(), signal.SIGTERM)
        if restarts() > 0 and (verdict := wait_until_free(folder, requests)) is not None:
            for line in verdict.lines:
                say(line, error=True)
            if verdict.exit_code == LOST:
                note(folder, "failed", exit_code=LOST, reason=verdict.lines[0])
            return verdict
    clock.start()
    return carry_out(job, requests)[1]


def _job(facts: dict[str, Any], folder: RunDir, node: int) -> Job:
    """The job as this node sees it."""
    nodes, name = int(facts["nodes"]), os.environ.get("SLURMD_NODENAME", "")
    seat = Seat()
    if nodes > 1:
        # A requeued job has the number that it had; its nodes must not find the place of the start before.
        meeting = folder.slurm / f"meeting-{job_id()}-{restarts()}.json"
        seat = Seat(node, nodes, f"{_host(name)}:0", str(meeting), name)
        if int(os.environ.get("SLURM_NNODES", "1")) != nodes:
            raise ConfigError(f"{folder.path}: submitted for {nodes} nodes, and Slurm gave {os.environ.get('SLURM_NNODES')}")
    config = load(folder.config).config
    workers, cpus = int(facts["workers_per_node"]), len(os.sched_getaffinity(0))
    return make_job(config, str(folder.config), (), workers=workers, cpus=cpus, environ=os.environ, fresh=False, seat=seat)


def _host(name: str) -> str:
    """What the other nodes can call this one: Slurm's name for it, or its own where that is no host's (NodeHostname, NodeAddr)."""
    for known in (name, socket.gethostname(), os.environ.get("SLURM_LAUNCH_NODE_IPADDR", "")):
        with suppress(OSError):
            if known and socket.gethostbyname(known):
                return known
    return name


def wait_until_free(folder: RunDir, requests: Requests, within_s: float = LOCK_WITHIN_S) -> Verdict | None:
    """Wait for a machine that was lost, which may hold the run's lock for a while yet, on a shared disk, and its workers the fence.

    Returns:
        None: both are free; else how this turn ends: another one may find them so.
    """
    end = time.monotonic() + within_s
    while True:
        try:
            if folder.lock.exists():
                RunLock(folder.lock).release()
            Fence.wait(folder.fence, 0.0)
            return None
        except RunFolderError as fault:
            if requests.stop:
                return Verdict(STOPPED, (NOT_BEGUN,))
            if time.monotonic() > end:
                return Verdict(LOST, (str(fault),), restart=True)
        requests.pause(1.0)
