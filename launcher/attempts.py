"""The attempts of a run: node 0 starts the workers, of all nodes, again and again as the policy says; the other nodes do as they are told.

On one machine the same code runs, and there is nobody to tell.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from launcher import forkserver
from launcher.adopted import bury
from launcher.closing import closing_lines, newest, say, with_outcomes
from launcher.failure import NOT_BEGUN, Verdict, WorkerEnd, judge
from launcher.health import Stall, Stuck, Watch, report
from launcher.memory import oom_kills
from launcher.plan import Job, thread_limit
from launcher.requests import Requests
from launcher.restart import after
from trainer.config.checks import divisors
from trainer.config.load import load
from trainer.config.schema import Config
from trainer.errors import DONE, LOST, STOPPED, STUCK, ConfigError, NodeLostError
from trainer.rundir import RunDir

if TYPE_CHECKING:
    from launcher.nodes import Crew

WORKER = "trainer.worker"
SEEN_WITHIN_S = 90.0  # a shared file system may show a new file late: NFS remembers for up to a minute that there was none
READY_WITHIN_S = 2 * SEEN_WITHIN_S
ENDED_WITHIN_S = 60.0  # workers end with their peers; their launchers may be slow to see it
GO_ON = "the same command goes on from the newest checkpoint"
ABANDONED = f"ended at once, on a second Ctrl-C; {GO_ON}"


@dataclass(frozen=True)
class Report:
    """How an attempt ended on one node, as it is told to node 0.

    Args:
        ends: of its workers.
        stall: they were ended because none moved.
        too_late: they were ended because they had not left within the time that a request gives them.
        stop: somebody asked this node to stop.
        abandoned: somebody insisted.
        out_of_memory: the kernel has killed processes for want of memory meanwhile.
    """

    ends: tuple[WorkerEnd, ...]
    stall: Stall | None = None
    too_late: bool = False
    stop: bool = False
    abandoned: bool = False
    out_of_memory: bool = False

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Report:
        """One that another node has told, from ``dataclasses.asdict``."""
        ends = tuple(WorkerEnd(**end) for end in facts["ends"])
        stall = Stall.of(facts["stall"]) if facts["stall"] else None
        return cls(**{**facts, "ends": ends, "stall": stall})


def merged(reports: Sequence[Report]) -> Report:
    """The whole job's report. Pure."""
    stalls = [node.stall for node in reports if node.stall is not None]
    states = sorted((state for stall in stalls for state in stall.states), key=lambda state: state.rank)
    return Report(
        ends=tuple(end for node in reports for end in node.ends),
        stall=Stall(max(stall.idle_s for stall in stalls), tuple(states)) if stalls else None,
        **{flag: any(getattr(node, flag) for node in reports) for flag in ("too_late", "stop", "abandoned", "out_of_memory")},
    )


def verdict_on(found: Report, grace_s: float) -> Verdict:
    """What an attempt's end means. Pure."""
    stuck: Stuck | None = report(found.stall.states, found.stall.idle_s) if found.stall is not None else None
    verdict = judge(found.ends, stop_requested=found.stop, stuck=stuck, out_of_memory=found.out_of_memory)
    if verdict.ended_well or not (found.abandoned or found.too_late):
        return verdict
    if found.abandoned:
        return Verdict(LOST, (ABANDONED,))
    late = f"ended when the time to stop was over (supervision.grace_s={grace_s:g}), before all had left"
    return Verdict(STOPPED, (late, GO_ON))


def lead(job: Job, folder: RunDir, requests: Requests, crew: Crew, count_devices: Callable[[], int]) -> tuple[int, Verdict]:
    """Start the workers, and start them again as long as the policy says so; the last attempt and how it ended.

    Raises:
        ConfigError: a node cannot take part; nothing was started.
    """
    config = load(folder.config).config
    fingerprint = _fingerprint(folder)
    crew.tell("prepared", fingerprint)
    _all_ready(crew, {"config": fingerprint, "device": job.env["OSTINATO_DEVICE"]}, "")
    workers, in_vain, order = job.workers, 0, 0
    while True:
        attempt, before = folder.next_attempt(), newest(folder)
        if requests.stop or crew.said("stop"):
            return attempt, Verdict(STOPPED, (NOT_BEGUN,))
        verdict, stop = _attempt(job, folder, config, workers, requests, crew, attempt, order)
        order += 1
        in_vain = in_vain + 1 if newest(folder) == before else 0
        restart = None
        if not (requests.stop or stop or crew.lost):
            fitting = _fitting(config, job.env["OSTINATO_DEVICE"], crew.size, count_devices)
            restart = after(verdict, in_vain, workers, fitting, config.supervision)
        if restart is None:
            if not verdict.ended_well:
                note(folder, "failed", attempt=attempt, exit_code=verdict.exit_code, reason="".join(verdict.lines[:1]))
            return attempt, verdict
        more = f" on {restart.workers} worker{'' if restart.workers == 1 else 's'}" if restart.workers != workers else ""
        where = newest(folder) or "the beginning"
        # The whole report, once: what is said of many attempts must still fit on a screen.
        lines = closing_lines(folder, attempt, verdict) if in_vain < 2 else list(verdict.lines[:1])
        say("\n".join([*lines, f"starting again{more}, from {where}"]), error=True)
        note(folder, "restarted", attempt=attempt, exit_code=verdict.exit_code, reason=verdict.lines[0], workers=restart.workers)
        requests.pause(restart.pause_s)
        workers = restart.workers


def _attempt(
    job: Job, folder: RunDir, config: Config, workers: int, requests: Requests, crew: Crew, attempt: int, order: int
) -> tuple[Verdict, bool]:
    """One start of all workers: how it ended, and whether a stop was asked for on any node."""
    crew.suspect(False)
    crew.tell(f"order-{order}", {"attempt": attempt, "workers": workers})
    try:
        mine = run_here(job, folder, config, workers // crew.size, requests, crew, attempt)
        reports = [mine]
        if crew.size > 1:
            crew.suspect(any(end.code not in (DONE, STOPPED) for end in mine.ends))
            reports = [
                Report.of(facts)
                for facts in crew.gather(f"ended-{order}", asdict(mine), within_s=ENDED_WITHIN_S + config.supervision.grace_s)
            ]
    except NodeLostError as fault:
        return unless_finished(folder, Verdict(LOST, (str(fault),), restart=True)), False
    found = merged(reports)
    found = replace(found, ends=tuple(with_outcomes(folder, attempt, found.ends)))
    return unless_finished(folder, verdict_on(found, config.supervision.grace_s)), found.stop


def unless_finished(folder: RunDir, verdict: Verdict) -> Verdict:
    """How an attempt ended: what the system takes after the run is finished, such as another machine, makes it no less so."""
    if verdict.exit_code not in (LOST, STUCK, STOPPED) or not folder.finished():
        return verdict
    say("\n".join(["after the run was finished:", *verdict.lines]), error=True)
    return Verdict(DONE)


def follow(job: Job, folder: RunDir, requests: Requests, crew: Crew, device: str, fault: str = "") -> int:
    """Another node than the first: start workers when node 0 says so, until it says that it is over; the exit code that it names.

    Args:
        job: as this node sees it.
        folder: the run folder, on a disk that the nodes share.
        requests: what is asked of this process by signals.
        crew: the nodes.
        device: what this node computes on.
        fault: why it cannot take part; node 0 says it, once.

    Raises:
        NodeLostError: node 0 is gone; the workers here have been ended.
    """

    def pass_on() -> None:
        if requests.stop:
            crew.tell("stop", True)

    job.env["OSTINATO_DEVICE"] = device
    key, facts = crew.hear("end", "prepared", meanwhile=pass_on)
    if key == "end":
        return int(facts)
    limit = time.monotonic() + min(SEEN_WITHIN_S, load(job.config, job.overrides).config.supervision.start_within_s)
    while (fingerprint := _fingerprint(folder)) != facts and time.monotonic() < limit:
        time.sleep(0.5)
    _all_ready(crew, {"config": fingerprint, "device": device}, fault)
    order = 0
    while True:
        key, facts = crew.hear("end", f"order-{order}", meanwhile=pass_on)
        if key == "end":
            return int(facts)
        config = load(folder.config).config
        attempt, workers = int(facts["attempt"]), int(facts["workers"])
        found = run_here(job, folder, config, workers // crew.size, requests, crew, attempt)
        found = replace(found, ends=tuple(with_outcomes(folder, attempt, found.ends)))
        crew.tell(f"ended-{order}/{crew.rank}", asdict(found))
        order += 1


def run_here(job: Job, folder: RunDir, config: Config, workers: int, requests: Requests, crew: Crew, attempt: int) -> Report:
    """This node's workers, from their start to their end."""
    from launcher.agent import run_node
    from trainer.worker import run as entry

    bury()
    forkserver.start([WORKER])  # the one before may have fallen with the workers
    oom_kills_before = oom_kills()
    first = crew.rank * workers
    watch = Watch(folder, attempt, range(first, first + workers), config.supervision)
    env = {**job.env, **thread_limit(config, workers, len(os.sched_getaffinity(0)))}
    grace_s = config.supervision.grace_s
    result = run_node(
        entry, job.run_dir, workers=workers, env=env, requests=requests, watch=watch, grace_s=grace_s, crew=crew, attempt=attempt
    )
    oom = oom_kills() > oom_kills_before
    return Report(tuple(result.ends), result.stall, result.too_late, requests.stop, requests.abandoned, oom)


def note(folder: RunDir, event: str, **facts: object) -> None:
    """An event; a full disk must not keep a run from ending as it should."""
    with suppress(OSError):
        folder.event(event, **facts)


def _fingerprint(folder: RunDir) -> str:
    """The config's: nodes that do not share the run folder see it differently, or not at all."""
    try:
        return hashlib.sha256(folder.config.read_bytes()).hexdigest()
    except OSError:
        return ""


def _all_ready(crew: Crew, facts: Mapping[str, str], fault: str) -> None:
    """Each node says what it sees; all refuse what one cannot do.

    Raises:
        ConfigError: names the node, and what is the matter there.
    """
    told = crew.gather("ready", {**facts, "fault": fault}, within_s=READY_WITHIN_S)
    for rank, other in enumerate(told):
        problem = other["fault"]
        if not problem and other["config"] != told[0]["config"]:
            problem = "the run folder there is not node 0's; run.root must be a folder that all nodes share"
        if not problem and other["device"] != told[0]["device"]:
            problem = f"it would compute on {other['device']}, and node 0 on {told[0]['device']}; set hardware.device"
        if problem:
            raise ConfigError(f"{crew.name_of(rank)}: {problem}")


def _fitting(config: Config, device: str, nodes: int, count_devices: Callable[[], int]) -> list[int]:
    """The numbers of workers that may play the run's virtual ranks here; a GPU may be gone."""
    ranks = config.train.virtual_ranks
    assert isinstance(ranks, int)
    return [n for n in divisors(ranks) if n % nodes == 0 and (device == "cpu" or n // nodes <= count_devices())]
