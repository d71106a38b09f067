"""Heartbeats -> is the job stuck, who is to blame, in which phase, at which line."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from launcher.stacks import Frame, main_thread, telling, waits_for_peers
from trainer.config.schema import SupervisionSection
from trainer.rundir import RunDir, read_json

LOOK_EVERY_S = 0.25
MOVING_S = 3.0
DUMP_S = 4.0  # what the processes may take to write their stacks: where there is nothing to wait for, it is not waited
PHASES = ("start", "load", "forward", "backward", "step", "evaluate", "save")


@dataclass(frozen=True)
class RankState:
    """One rank of a job that does not move.

    Args:
        rank: its rank.
        phase: where its heartbeat says it is; empty: it has no heartbeat yet.
        step: updates that it has completed.
        halted: the system has stopped its process (SIGSTOP, a debugger, a frozen container).
        frames: its main thread's stack, innermost first.
        loader: where one of its loader workers is, if it waits for data.
    """

    rank: int
    phase: str = ""
    step: int = 0
    halted: bool = False
    frames: tuple[Frame, ...] = ()
    loader: Frame | None = None

    @property
    def signature(self) -> tuple[int, str, str]:
        """What ranks that wait together have in common."""
        line = telling(self.frames)
        return self.step, self.phase, str(line) if line else ""


@dataclass(frozen=True)
class Stall:
    """What one node finds when its workers do not move: for how many seconds, and where each is."""

    idle_s: float
    states: tuple[RankState, ...]

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Stall:
        """One that another node has told, from ``dataclasses.asdict``."""
        states = []
        for state in facts["states"]:
            frames = tuple(Frame(**frame) for frame in state["frames"])
            loader = Frame(**state["loader"]) if state["loader"] else None
            states.append(RankState(**{**state, "frames": frames, "loader": loader}))
        return cls(float(facts["idle_s"]), tuple(states))


@dataclass(frozen=True)
class Stuck:
    """A job that does not move: what to say, and the rank to blame."""

    rank: int
    lines: tuple[str, ...]


def odd_ranks(states: Sequence[RankState]) -> list[int]:
    """The ranks that the others wait for. Pure.

    A halted process explains everything; then those that are not in a collective while others are; then those that are elsewhere
    than most; then those that are behind.
    """
    halted = [state.rank for state in states if state.halted]
    if halted:
        return halted
    busy = [state.rank for state in states if not waits_for_peers(state.frames)]
    if 0 < len(busy) < len(states):
        return busy
    groups = Counter(state.signature for state in states)
    if len(groups) > 1:
        least = min(groups.values())
        if sum(count == least for count in groups.values()) == 1:
            return [state.rank for state in states if groups[state.signature] == least]
        behind = min((state.step, _order(state.phase)) for state in states)
        return [state.rank for state in states if (state.step, _order(state.phase)) == behind]
    return [state.rank for state in states]


def _order(phase: str) -> int:
    return PHASES.index(phase) if phase in PHASES else -1


def report(states: Sequence[RankState], idle_s: float) -> Stuck:
    """What to say about a job that does not move. Pure."""
    odd = odd_ranks(states)
    by_rank = {state.rank: state for state in states}
    lines = [f"stuck: no worker has moved for {idle_s:.0f} s"]
    if len(odd) == len(states) > 1:
        lines.append(f"all {len(states)} workers are at the same place, e.g. {_sentence(by_rank[odd[0]])}")
    else:
        lines += [_sentence(by_rank[rank]) for rank in odd[:3]]
        others = Counter(state.signature for state in states if state.rank not in odd)
        for signature, _ in others.most_common(2):
            ranks = [state.rank for state in states if state.rank not in odd and state.signature == signature]
            lines.append(f"  {_names(ranks)} wait{'s' if len(ranks) == 1 else ''}: {_place(by_rank[ranks[0]])}")
    return Stuck(odd[0], tuple(lines))


def _sentence(state: RankState) -> str:
    if state.halted:
        return f"rank {state.rank} is halted (SIGSTOP, a debugger or a frozen container): {_place(state)}"
    return f"rank {state.rank} is stuck: {_place(state)}"


def _place(state: RankState) -> str:
    if not state.phase:
        return "before its first heartbeat"
    line = telling(state.frames)
    text = f"in {state.phase}, after step {state.step}" + (f", at {line}" if line else "")
    return f"{text}; its loader worker is at {state.loader}" if state.loader else text


def _names(ranks: Sequence[int]) -> str:
    return f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {', '.join(map(str, ranks[:8]))}"


@dataclass
class Watch:
    """Looks at the heartbeats of one attempt.

    Args:
        run: the run folder.
        attempt: heartbeats of an earlier one do not count.
        ranks: the workers of this machine: all clocks here are one.
        policy: the limits.
        since: the start, on the monotonic clock that all processes of a machine share.
    """

    run: RunDir
    attempt: int
    ranks: Sequence[int]
    policy: SupervisionSection
    since: float = field(default_factory=time.monotonic)
    looked: float = 0.0
    beats: Path | None = None
    """A folder of this machine in which workers beat as well: it has room when the run's disk is full."""

    def overdue_s(self, now: float) -> float | None:
        """For how long no worker has moved, if that is too long."""
        if now - self.looked < LOOK_EVERY_S:
            return None
        self.looked = now
        beats = [self._beat(rank) for rank in self.ranks]
        idle = self._idle_s(now, beats)
        begun = any(beat is not None and beat["begun"] for beat in beats)  # an update is everyone's
        return idle if idle > (self.policy.stuck_after_s if begun else self.policy.start_within_s) else None

    def idle_s(self, now: float) -> float:
        """For how long no worker has moved."""
        return self._idle_s(now, [self._beat(rank) for rank in self.ranks])

    def _idle_s(self, now: float, beats: Sequence[dict[str, Any] | None]) -> float:
        return now - max([self.since, *(float(beat["moved"]) for beat in beats if beat)])

    def examine(self, workers: Mapping[int, psutil.Process], idle_s: float) -> Stall:
        """Have every process write its stacks, and read where it is. The processes are of no use afterwards."""
        halted = {rank for rank, process in workers.items() if _is_halted(process)}
        before = {path: path.stat().st_size for path in self._stack_files()}
        for process in [*workers.values(), *self._loader_workers(workers)]:
            for number in (signal.SIGQUIT, signal.SIGCONT):  # a halted one answers when it is let go on
                with suppress(psutil.Error):
                    process.send_signal(number)
        self._wait_for_dumps(before)
        return Stall(idle_s, tuple(self._state(rank, rank in halted, before) for rank in self.ranks))

    def _wait_for_dumps(self, before: Mapping[Path, int]) -> None:
        """Until every rank that has a stack file has written to it, and what it began is through."""
        end = time.monotonic() + DUMP_S
        waited_for = [path for path in before if ".loader-" not in path.name]
        while time.monotonic() < end and not all(path.stat().st_size > before[path] for path in waited_for):
            time.sleep(0.02)
        time.sleep(0.1)

    def moving(self, now: float) -> set[int]:
        """The ranks that have moved just now."""
        beats = {rank: self._beat(rank) for rank in self.ranks}
        return {rank for rank, beat in beats.items() if beat and now - float(beat["moved"]) < MOVING_S}

    def _beat(self, rank: int) -> dict[str, Any] | None:
        places = [self.run.heartbeat(rank)]
        if self.beats is not None:
            places.insert(0, self.beats / f"beat-{rank}.json")
        for place in places:
            with suppress(OSError, ValueError, KeyError, TypeError):
                beat = dict(read_json(place))
                if beat["attempt"] == self.attempt:
                    return beat
        return None

    def _stack_files(self) -> list[Path]:
        return [path for rank in self.ranks for path in self.run.attempt_logs(self.attempt).glob(f"rank-{rank}.stack*.txt")]

    def _loader_workers(self, workers: Mapping[int, psutil.Process]) -> list[psutil.Process]:
        """Those that answer: each has made its file."""
        answering = {path.stem.rpartition("-")[2] for path in self._stack_files() if ".loader-" in path.name}
        found = []
        for process in workers.values():
            with suppress(psutil.Error):
                found += [child for child in process.children(recursive=True) if str(child.pid) in answering]
        return found

    def _state(self, rank: int, halted: bool, before: Mapping[Path, int]) -> RankState:
        beat = self._beat(rank)
        path = self.run.stack(self.attempt, rank)
        frames = tuple(main_thread(_new_text(path, before)))
        loader = None
        if beat is not None and beat["phase"] in ("load", "evaluate"):
            loader = self._stuck_loader(rank, before)
        if beat is None:
            return RankState(rank, halted=halted, frames=frames)
        return RankState(rank, str(beat["phase"]), int(beat["step"]), halted, frames, loader)

    def _stuck_loader(self, rank: int, before: Mapping[Path, int]) -> Frame | None:
        """A loader worker that is reading while its rank waits; one that has nothing to do waits in torch's queue."""
        for path in sorted(self._stack_files()):
            if path.name.startswith(f"rank-{rank}.stack.loader-"):
                line = telling(main_thread(_new_text(path, before)))
                if line is not None and "/torch/" not in line.file and "/multiprocessing/" not in line.file:
                    return line
        return None


def _new_text(path: Path, before: Mapping[Path, int]) -> str:
    try:
        return path.read_bytes()[before.get(path, 0) :].decode(errors="replace")
    except OSError:
        return ""


def _is_halted(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return bool(process.status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP))
    return False
