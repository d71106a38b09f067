"""One node: torch's elastic agent starts the workers from the fork server and watches them, and this watches the agent.

The agent runs in a thread: there it installs no signal handlers. Its own would end the workers 30 s after any signal,
whereas a request to stop goes to the workers as what it is, and they leave when their checkpoint is written.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psutil
import torch
from torch.distributed import FileStore, PrefixStore
from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup, WorkerSpec, WorkerState
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, LogsDest
from torch.distributed.elastic.rendezvous import RendezvousHandler, RendezvousInfo, RendezvousStoreInfo

from launcher.failure import WorkerEnd
from launcher.forkserver import nameless_main
from launcher.health import DUMP_S, LOOK_EVERY_S, Stall, Watch
from launcher.in_forkserver import enter
from launcher.nodes import Crew
from launcher.plan import INTERFACES
from launcher.requests import Requests
from trainer.errors import NodeLostError
from trainer.rundir import read_json

POLL_S = 0.05
# A worker whose peer is gone cannot go on; what it still has to do is to say so.
PEER_GRACE_S = 5.0
EXAMINED_WITHIN_S = DUMP_S + 4.0  # the other nodes' reports; they hear a little later that it is time for one
NOISY = ("torch.distributed.elastic", "torch.multiprocessing.spawn", "torch.distributed.launcher")


@dataclass
class NodeResult:
    """How the workers of this node ended.

    Args:
        ends: by rank, without the outcome files: those are the run folder's.
        stall: they were ended because none moved.
        too_late: they were ended because they had not left within the time that a request gives them.
    """

    ends: list[WorkerEnd]
    stall: Stall | None = None
    too_late: bool = False


def count_devices() -> int:
    """The CUDA devices that this process may use."""
    return torch.cuda.device_count()


class _Rendezvous(RendezvousHandler):
    """The meeting of one node with itself, at once, through a file in a private folder; of several, in the store that they share already.

    The c10d rendezvous waits a random 0 to 0.3 s before it joins, opens a TCP store to all interfaces even where a file is its store, and
    unpickles what it finds there.
    """

    def __init__(self, folder: Path, crew: Crew, attempt: int) -> None:
        self.folder, self.crew, self.attempt = folder, crew, attempt
        self.closed = False

    def get_backend(self) -> str:
        return "file" if self.crew.meeting is None else "tcp"

    def next_rendezvous(self) -> RendezvousInfo:
        meeting = self.crew.meeting
        if meeting is not None:
            agents = PrefixStore(f"agents-{self.attempt}", meeting.connect())
            return RendezvousInfo(agents, self.crew.rank, self.crew.size, RendezvousStoreInfo(meeting.host, meeting.port))
        store = FileStore(str(self.folder / "agent"), 1)
        # Address and port mean nothing here: workers meet in the file named by OSTINATO_STORE.
        return RendezvousInfo(store, 0, 1, RendezvousStoreInfo("127.0.0.1", 0))

    def is_closed(self) -> bool:
        return self.closed

    def set_closed(self) -> None:
        self.closed = True

    def num_nodes_waiting(self) -> int:
        return 0

    def get_run_id(self) -> str:
        return self.folder.name

    def shutdown(self) -> bool:
        return True


class _Variables(DefaultLogsSpecs):
    """Adds our variables to each worker's: the one place where the elastic agent shows them before a start."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        super().__init__(log_dir=str(folder))
        self.env = dict(env)

    def reify(self, envs: dict[int, dict[str, str]]) -> LogsDest:
        for variables in envs.values():
            variables.update(self.env)
        return super().reify(envs)


class _Agent(LocalElasticAgent):
    """The elastic agent, which also tells who its workers are."""

    def __init__(self, spec: WorkerSpec, logs: DefaultLogsSpecs, first_rank: int) -> None:
        super().__init__(spec, logs, start_method="forkserver")
        self.first_rank = first_rank
        self.processes: dict[int, BaseProcess] = {}
        self.workers: dict[int, psutil.Process] = {}
        self.all_gone = False

    def _start_workers(self, worker_group: WorkerGroup) -> dict[int, Any]:
        pids: dict[int, Any] = super()._start_workers(worker_group)
        # Only this thread may ask processes how they are (two that read one exit code get one each wrong), and only now: later
        # the ended ones are forgotten. The psutil handles are for signals from the main thread: they never reach a recycled pid.
        self.processes = dict(enumerate(self._pcontext._pc.processes, self.first_rank))  # type: ignore[union-attr]
        workers = {}
        for local_rank, pid in pids.items():
            with suppress(psutil.NoSuchProcess):
                workers[self.first_rank + local_rank] = psutil.Process(pid)
        self.workers = workers
        return pids

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        result: RunResult = super()._monitor_workers(worker_group)
        if result.state is not WorkerState.HEALTHY:
            return result
        # torch waits for ever for the value of a worker that left with exit code 0 and gave none. A second look, because what
        # ended after torch's own look is reported at its next one.
        if self.all_gone:
            return RunResult(state=WorkerState.FAILED)
        self.all_gone = all(process.exitcode is not None for process in self.processes.values())
        return result

    def _exit_barrier(self) -> None:
        """Nodes wait for each other where they compare how it ended; torch's own wait would be five minutes for a node that is gone."""


@dataclass
class _Supervisor:
    """The main thread's part: requests from outside, workers that do not move, and peers of one that is gone."""

    agent: _Agent
    requests: Requests
    watch: Watch | None
    grace_s: float
    crew: Crew
    attempt: int
    asked: set[int] = field(default_factory=set)
    killed: set[int] = field(default_factory=set)
    alone_since: float | None = None
    stall: Stall | None = None
    too_late: bool = False
    looked: float = 0.0
    failed_elsewhere: bool = False
    stuck_elsewhere: bool = False

    def tend(self, now: float) -> None:
        """Do what is due: pass a request on once to each worker, kill what cannot go on."""
        workers = self.agent.workers
        if self.crew.size > 1 and now - self.looked > LOOK_EVERY_S:
            self.looked = now
            self._listen(now)
        if self.requests.abandoned or self.crew.lost:
            self._kill(workers)
        elif self.requests.since is not None:
            for rank in workers.keys() - self.asked:
                with suppress(psutil.Error):
                    workers[rank].send_signal(signal.SIGTERM)
            self.asked |= workers.keys()
            self.too_late = now > self.requests.leave_by(self.grace_s)
            if self.too_late:
                self._kill(workers)
        # Workers that are done wait for each other before they end, so one alone that has ended has failed.
        if self.alone_since is None and (self.failed_elsewhere or not all(worker.is_running() for worker in workers.values())):
            self.alone_since = now
        self._look(now, workers)

    def _look(self, now: float, workers: Mapping[int, psutil.Process]) -> None:
        """Whether the workers can go on, and do."""
        if self.alone_since is not None:
            alone_s = now - self.alone_since
            if alone_s > PEER_GRACE_S:
                # Rank 0 may be writing a checkpoint, which is a good one although training has failed.
                spared = self.watch.moving(now) if self.watch is not None and alone_s < self.grace_s else set()
                self._kill({rank: worker for rank, worker in workers.items() if rank not in spared})
        elif self.watch is not None and workers and self.stall is None:
            idle_s = self.watch.idle_s(now) if self.stuck_elsewhere else self.watch.overdue_s(now)
            if idle_s is not None:
                self._end_stuck(self.watch, workers, idle_s)

    def _listen(self, now: float) -> None:
        """What other nodes have found, and what is to be said to them: workers that fall with their peers say less than the first."""
        with suppress(NodeLostError):  # `crew.lost` says it
            if self.alone_since is not None and now - self.alone_since > LOOK_EVERY_S:
                self.crew.tell(f"failed-{self.attempt}", True)
            self.failed_elsewhere = self.failed_elsewhere or self.crew.said(f"failed-{self.attempt}")
            self.stuck_elsewhere = self.stuck_elsewhere or self.crew.said(f"stuck-{self.attempt}")

    def _end_stuck(self, watch: Watch, workers: Mapping[int, psutil.Process], idle_s: float) -> None:
        """Find out where each worker is, and end all; on several nodes only when every node has looked at its own."""
        with suppress(NodeLostError):
            self.crew.tell(f"stuck-{self.attempt}", True)
            self.stall = watch.examine(workers, idle_s)
            self.crew.tell(f"examined-{self.attempt}/{self.crew.rank}", True)
            self.crew.all_said(f"examined-{self.attempt}", EXAMINED_WITHIN_S)
        self._kill(workers)

    def _kill(self, workers: Mapping[int, psutil.Process]) -> None:
        """End workers and whatever they started, at once."""
        for rank, worker in workers.items():
            with suppress(psutil.Error):
                family = [*worker.children(recursive=True), worker]
                self.killed.add(rank)
                for process in family:
                    with suppress(psutil.Error):
                        process.kill()


def _spec(entry: Callable[[str], int], argument: str, workers: int, rendezvous: _Rendezvous) -> WorkerSpec:
    return WorkerSpec(
        role="trainer",
        local_world_size=workers,
        entrypoint=enter,
        args=(entry, (argument,)),
        rdzv_handler=rendezvous,
        max_restarts=0,
        monitor_interval=POLL_S,
        local_addr="127.0.0.1",
    )


def run_node(
    entry: Callable[[str], int],
    argument: str,
    *,
    workers: int,
    env: Mapping[str, str],
    requests: Requests,
    watch: Watch | None = None,
    grace_s: float = 30.0,
    crew: Crew | None = None,
    attempt: int = 0,
) -> NodeResult:
    """Run one function on each of this node's workers until all have ended. Call it from the main thread.

    Args:
        entry: what a worker runs: an importable function of one string.
        argument: that string.
        workers: how many on this node.
        env: variables for each worker, beside torchrun's own.
        requests: what is asked of this process by signals; it is passed on.
        watch: sees whether they move; None: nobody does.
        grace_s: how long they have from a request until they are ended.
        crew: the job's nodes, if there are several.
        attempt: which start of the workers this is, to the other nodes.

    Raises:
        NodeLostError: another node is gone; the workers here have been ended.
    """
    crew = crew or Crew()
    first_rank = crew.rank * workers
    for name in NOISY:
        _silence(name)
    folder = Path(tempfile.mkdtemp(prefix="ostinato-"))  # mode 0700: whoever can write there could join the job
    try:
        logs = _Variables(folder, {**env, "OSTINATO_STORE": str(folder / "store"), **_meeting_variables(crew, attempt, env)})
        agent = _Agent(_spec(entry, argument, workers, _Rendezvous(folder, crew, attempt)), logs, first_rank)
        if watch is not None:
            watch.beats = folder
        supervisor = _Supervisor(agent, requests, watch, grace_s, crew, attempt)
        results: list[RunResult | Exception] = []
        done = threading.Event()

        def work() -> None:
            try:
                results.append(agent.run())
            except Exception as fault:
                results.append(fault)
            finally:
                done.set()

        requests.workers_run = True
        with nameless_main():
            threading.Thread(target=work, name="elastic-agent", daemon=True).start()
            while not done.wait(POLL_S) and not (crew.lost and not agent.workers):
                supervisor.tend(time.monotonic())
        if crew.lost:
            raise NodeLostError(f"{crew.lost}; the same command goes on from the newest checkpoint")
        if isinstance(results[0], (OSError, EOFError)):  # the fork server fell while it was to start a worker
            return NodeResult([WorkerEnd(rank, None) for rank in range(first_rank, first_rank + workers)], None, False)
        if isinstance(results[0], Exception):
            raise results[0]
        ends = [_with_outcome(end, folder) for end in _ends(agent, results[0], supervisor.killed, range(first_rank, first_rank + workers))]
        return NodeResult(ends, supervisor.stall, supervisor.too_late)
    finally:
        requests.workers_run = False
        shutil.rmtree(folder, ignore_errors=True)


def _meeting_variables(crew: Crew, attempt: int, env: Mapping[str, str]) -> dict[str, str]:
    """Where the workers of several nodes meet, and by which interface they reach each other unless the user has chosen one."""
    meeting = crew.meeting
    if meeting is None:
        return {}
    variables = {"OSTINATO_MEETING": f"{meeting.host}:{meeting.port}/{meeting.name}/workers-{attempt}"}
    if crew.interface is not None:
        variables |= {name: crew.interface for name in to_name(crew.guests[crew.rank].address) if name not in {**os.environ, **env}}
    return variables


def to_name(address: str) -> tuple[str, ...]:
    """The libraries' variables that must name the interface with this address. Pure.

    Gloo would take the one of the machine's own name, which need not lead to the others. NCCL chooses well by itself (InfiniBand before
    Ethernet), but never the loopback interface, and that is the only one between nodes that share a machine.
    """
    return INTERFACES if address.startswith("127.") else tuple(name for name in INTERFACES if name.startswith("GLOO_"))


def _silence(name: str) -> None:
    """The cause of a failure is told by us; the agent's own 60 lines stay unsaid. Its modules set levels, so a level is not enough."""
    logger = logging.getLogger(name)
    logger.addHandler(logging.NullHandler())
    logger.propagate = False


def _with_outcome(end: WorkerEnd, folder: Path) -> WorkerEnd:
    """The end with what the worker wrote about it beside the store, where there is room when the run's disk is full."""
    with suppress(OSError, ValueError):
        return replace(end, outcome=read_json(folder / f"outcome-{end.rank}.json"))
    return end


def _ends(agent: _Agent, result: RunResult, killed: set[int], ranks: Sequence[int]) -> list[WorkerEnd]:
    """How each worker ended, by what the system and the agent know."""
    ends = [WorkerEnd(rank, None) for rank in ranks if rank not in agent.processes]
    for rank, process in sorted(agent.processes.items()):
        failure = result.failures.get(rank)
        message = failure.message if failure is not None else ""
        if isinstance(message, dict):
            message = message.get("message", "")
        ends.append(
            WorkerEnd(
                rank=rank,
                exit_code=process.exitcode,
                value=result.return_values.get(rank),
                by_launcher=rank in killed,
                message="" if "see: https://" in message else message,
            )
        )
    return ends
