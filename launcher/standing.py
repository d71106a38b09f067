"""How a run stands: what its folder says, who holds its lock, what Slurm says of its job. It only looks: nothing is created or held."""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from launcher import slurm_query
from launcher.slurm_query import Answer, SlurmJob
from launcher.tail import newest_rows
from trainer.errors import LOST, OstinatoError, RunFolderError
from trainer.rundir import ASIDE, RunDir, read_json
from trainer.stop import PAUSE

FRESH_S = 60.0
"""A heartbeat of another machine that is younger than this is one of a living run: clocks may differ, and shared folders lag."""
CLOCKS_S = 1.0
"""What a file server's clock may be off by, where its time of a file is compared with ours."""

TRAINING = ("started", "resumed", "checkpointed", "skipped", "restarted")
QUEUED = ("submitted", "requeued")
NAMED = re.compile(r"process (\d+) on (\S+)")


@dataclass(frozen=True)
class Holder:
    """Who holds a run's lock, as far as it is known."""

    pid: int | None = None
    host: str | None = None

    @property
    def here(self) -> bool:
        """Whether it is a process of this machine."""
        return self.pid is not None and self.host == os.uname().nodename

    def __str__(self) -> str:
        return "another process" if self.pid is None else f"process {self.pid} on {self.host}"


@dataclass(frozen=True)
class Facts:
    """What a run folder says.

    Args:
        run: the folder.
        last: the newest event that says how the run stands.
        requested: when a stop was asked for after that event; None: it was not.
        newest_event: the newest event's time.
        starts: attempts that have begun.
        restarts: attempts that followed a fault, at once or through the queue.
        named: who held the lock last.
        held: somebody holds it now.
        beat: rank 0's heartbeat of the newest attempt.
        submission: the newest one to Slurm, or to this machine.
        gone: the process of that one is, if it was one of this machine.
    """

    run: RunDir
    last: dict[str, Any] = field(default_factory=dict)
    requested: float | None = None
    newest_event: float | None = None
    starts: int = 0
    restarts: int = 0
    named: Holder = Holder()
    held: bool = False
    beat: dict[str, Any] = field(default_factory=dict)
    submission: dict[str, Any] = field(default_factory=dict)
    gone: bool = False

    @property
    def event(self) -> str:
        """The last event's name; empty: there is none."""
        return str(self.last.get("event", ""))

    @property
    def job_id(self) -> str | None:
        """The newest submission's job."""
        found = self.submission.get("job_id")
        return None if found is None else str(found)

    @property
    def step(self) -> int | None:
        """The step of the last event, where it has one."""
        return whole(self.last.get("step"))


@dataclass(frozen=True)
class Standing:
    """A run, and how it stands.

    Args:
        facts: what the folder says.
        state: running, waiting, stopped, failed, finished, lost or created.
        detail: more about it, such as why it waits.
        job: what Slurm knows of the newest submission.
        unsure: Slurm, which did not answer, may have its job in the queue for all that.
    """

    facts: Facts
    state: str
    detail: str = ""
    job: SlurmJob | None = None
    unsure: bool = False

    @property
    def on(self) -> bool:
        """Whether the run is under way, or will be without anybody's doing."""
        return self.state in ("running", "waiting")

    @property
    def may_be_on(self) -> bool:
        """The same, or nobody can say at the moment."""
        return self.on or self.unsure or (self.job is not None and self.job.lives)


def look(runs: Sequence[RunDir]) -> tuple[list[Standing | OstinatoError], str | None]:
    """How some runs stand, or what is wrong with each; and a warning, if Slurm should have been asked and did not answer."""
    found: list[Facts | OstinatoError] = []
    for run in runs:
        try:
            found.append(read(run))
        except OstinatoError as fault:
            found.append(fault)
    ids = {facts.job_id for facts in found if isinstance(facts, Facts) and facts.event != "finished"}
    answer = slurm_query.ask(sorted(job_id for job_id in ids if job_id))
    now = time.time()
    standings = [facts if isinstance(facts, OstinatoError) else judge(facts, answer, now) for facts in found]
    return [replace(one, unsure=_unsure(one, answer)) if isinstance(one, Standing) else one for one in standings], answer.warning


def _unsure(one: Standing, answer: Answer) -> bool:
    """Whether Slurm might know better; it does not of a run that has ended for good."""
    facts = one.facts
    ended = facts.event == "finished" or (facts.event == "failed" and facts.last.get("exit_code") != LOST)
    return answer.warning is not None and facts.job_id is not None and not ended and not one.on


def look_at(run: RunDir) -> tuple[Standing, str | None]:
    """How one run stands, and the warning.

    Raises:
        RunFolderError: it is no run, or cannot be read.
    """
    (found,), warning = look([run])
    if isinstance(found, OstinatoError):
        raise found
    return found, warning


def read(run: RunDir) -> Facts:
    """What a run folder says, from the ends of its files.

    Raises:
        RunFolderError: it is no run, or cannot be read.
    """
    try:
        run.must_exist()
        submission = next(newest_rows(run.submissions), {})
        gone = _gone(submission)  # before the events: what it has done until then stands there
        last: dict[str, Any] = {}
        requested = newest_event = None
        for row in newest_rows(run.events):
            newest_event = newest_event or number(row.get("time"))
            if row.get("event") == "stop-requested":
                requested = requested or number(row.get("time"))
            if row.get("event") not in ASIDE:
                last = row
                break
        held, named = lock_of(run.lock)
        if held and requested is not None and requested < run.lock.stat().st_mtime - CLOCKS_S:
            requested = None  # whoever has the lock took it later: another start was meant
        return Facts(run, last, requested, newest_event, *_starts(run), named, held, _beat(run), submission, gone)
    except OSError as fault:
        where = fault.filename or run.path
        raise RunFolderError(f"{where}: cannot be read ({fault.strerror})") from fault


def judge(facts: Facts, answer: Answer, now: float) -> Standing:
    """How a run stands. Pure.

    What is finished stays finished; then a held lock counts, then Slurm, then a heartbeat of another machine, then the events.
    """
    job = answer.of(facts.submission)
    event, training = facts.event, facts.event in TRAINING
    if event == "finished":
        return Standing(facts, "finished", job=job)
    if facts.held:
        return Standing(facts, "running", "asked to stop" if facts.requested else "", job)
    if job is not None and job.waits:
        return Standing(facts, "waiting", job.reason or job.state.lower(), job)
    if job is not None and job.runs:  # also while it ends: it may be on its way back to the queue
        return Standing(facts, "running", "" if training else job.state.lower().replace("running", "starting"), job)
    if training and not facts.named.here and (age := _age(facts, now)) is not None and age < FRESH_S:
        return Standing(facts, "running", "asked to stop" if facts.requested else "", job)
    if event == "stopped":
        paused = facts.last.get("reason") == PAUSE
        return Standing(facts, "stopped", f"paused after epoch {facts.last.get('epoch')}" if paused else "", job)
    if event == "failed":
        code = facts.last.get("exit_code")
        return Standing(facts, "failed", "" if code is None else f"exit {code}", job)
    return _neither_running_nor_ended(facts, answer, job)


def _neither_running_nor_ended(facts: Facts, answer: Answer, job: SlurmJob | None) -> Standing:
    """Nobody runs it, and its last event is not an end."""
    ended = f"Slurm: {job.state}" if job is not None else ""
    if facts.event in TRAINING:
        if facts.requested:
            return Standing(facts, "stopped", "without a checkpoint of its own", job)
        return Standing(facts, "lost", ended or "nobody runs it", job)
    if facts.requested or (job is not None and job.state == "CANCELLED"):
        return Standing(facts, "stopped", "before it began" if not facts.starts else "", job)
    if facts.event in QUEUED:
        if facts.gone:
            return Standing(facts, "lost", f"its process ended before it began; {facts.submission.get('log')} says why", job)
        if answer.asked:
            unknown = f"Slurm's job {facts.job_id} is another one" if facts.job_id in answer.jobs else ""
            return Standing(facts, "lost", ended or unknown or f"Slurm does not know job {facts.job_id} any more", job)
        return Standing(facts, "waiting", "Slurm cannot be asked from here" if answer.warning is None else "Slurm does not answer", job)
    return Standing(facts, "created", ended, job)


def lock_of(path: Path) -> tuple[bool, Holder]:
    """Whether a run's lock is held, and the holder's name as it stands there.

    A shared lock is tried and let go at once: whoever holds it does not notice, and no file is made.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return False, Holder()
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            held = False
        except BlockingIOError:
            held = True
        match = NAMED.search(os.pread(descriptor, 400, 0).decode(errors="replace"))
    finally:
        os.close(descriptor)
    return held, Holder(int(match[1]), match[2]) if match else Holder()


def moved_at(facts: Facts) -> float | None:
    """When the run has last moved: rank 0's last step or batch, or an event."""
    beat = facts.beat
    times = [facts.newest_event]
    with suppress(KeyError, TypeError):
        times.append(float(beat["time"]) - (float(beat["monotonic"]) - float(beat["moved"])))
    return max((value for value in times if value is not None), default=None)


def _gone(submission: Mapping[str, Any]) -> bool:
    """Whether a job was a process of this machine, and is none any more; one that only its parent still has to notice is none."""
    if submission.get("host") != os.uname().nodename:
        return False
    try:
        return bool(psutil.Process(int(str(submission.get("job_id")))).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
    except (ValueError, psutil.Error):
        return False


def _age(facts: Facts, now: float) -> float | None:
    time_of_beat = number(facts.beat.get("time"))
    return None if time_of_beat is None else now - time_of_beat


def _beat(run: RunDir) -> dict[str, Any]:
    with suppress(ValueError, RecursionError, FileNotFoundError):
        value = read_json(run.heartbeat(0))
        return value if isinstance(value, dict) else {}
    return {}


def _starts(run: RunDir) -> tuple[int, int]:
    """Starts and restarts, counted in the file's bytes: a quote inside a value would be escaped, so only names of events match."""
    try:
        data = run.events.read_bytes()
    except FileNotFoundError:
        return 0, 0
    counts = {name: data.count(b'"event": "%s"' % name.encode()) for name in ("started", "resumed", "restarted", "requeued")}
    return counts["started"] + counts["resumed"], counts["restarted"] + counts["requeued"]


def number(value: object) -> float | None:
    """A number of a file that may say anything; None: it is none."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def whole(value: object) -> int | None:
    """The same for a whole number."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None
