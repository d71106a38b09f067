"""Whether a job in Slurm stands in the queue again when its turn is over, and how it gets there (free of torch).

A turn is what lies between two starts of a job by Slurm. A job that Slurm has taken back itself is in the queue already; one that left by
itself, within the time that it was given to leave, is not.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

from launcher import slurm_query
from launcher.attempts import note
from launcher.closing import newest, say
from launcher.failure import Verdict
from launcher.sbatch import WISH
from launcher.slurm_query import SlurmJob
from trainer.config.load import load
from trainer.errors import LOST, STOPPED
from trainer.rundir import RunDir, read_jsonl
from trainer.stop import PAUSE

ALIVE = slurm_query.RUNNING - {"COMPLETING"}
REQUEUE_WITHIN_S = 60.0
POLL_S = 0.5
NO_ANSWER = "not queued again: Slurm does not say whether somebody has ended the job; submit it again to go on"
# What may be different a moment later; other refusals are final.
PASSING = re.compile(r"has not answered|contact|communicat|timed out|Socket|Connection|temporarily", re.IGNORECASE)


@dataclass(frozen=True)
class Past:
    """What a run folder says of the job's turns.

    Args:
        stop_asked: somebody has asked for a stop since the run was submitted, by ``ostinato stop``.
        in_vain: turns in a row that brought no new checkpoint, this one included unless it has.
        over: this turn has ended the run: it is finished, paused as its config says, or failed for good.
    """

    stop_asked: bool = False
    in_vain: int = 1
    over: bool = False


def past(folder: RunDir) -> Past:
    """Read it from the events."""
    stop_asked, in_vain, checkpointed, over = False, 0, False, False
    for row in read_jsonl(folder.events):
        event = row.get("event")
        if event in ("submitted", "requeued"):
            in_vain = in_vain + 1 if event == "requeued" and not checkpointed else 0
            # Slurm may take a job back while it is being stopped: who asked for a stop did not ask this turn for it, but the run.
            stop_asked = stop_asked and event == "requeued"
            checkpointed = over = False
        elif event == "stop-requested":
            stop_asked = True
        elif event == "checkpointed":
            checkpointed = True
        elif event in ("started", "resumed"):
            over = False
        elif event in ("finished", "failed"):
            over = row.get("exit_code") != LOST
        elif event == "stopped":
            over = row.get("reason") == PAUSE
    return Past(stop_asked, 0 if checkpointed else in_vain + 1, over)


def job_id() -> str | None:
    """This job as Slurm's commands call it: ``123``, or ``123_4`` in an array.

    None: it is none of Slurm's, or a process in somebody's own allocation, which is not ours to queue again.
    """
    if os.environ.get("SUBMITIT_EXECUTOR") != "slurm" or "SUBMITIT_DEBUG_JOB_ID" in os.environ:
        return None
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        return f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ.get("SLURM_JOB_ID")


def restarts() -> int:
    """How often this job was queued again."""
    return int(os.environ.get("SLURM_RESTART_COUNT") or 0)


def begin_turn(folder: RunDir) -> Past:
    """Write down a requeue that was Slurm's own doing; what the run folder says then."""
    job = job_id()
    if job is not None and restarts() > 0:
        known = (row for row in read_jsonl(folder.events) if row.get("event") == "requeued")
        if not any(row.get("job_id") == job and row.get("restart") == restarts() for row in known):
            note(folder, "requeued", job_id=job, restart=restarts(), checkpoint=newest(folder), reason=_granted() or "by Slurm")
    return past(folder)


def too_often(found: Past, limit: int) -> str | None:
    """What to say of a job whose turns lead nowhere, at the beginning of one more; None: it may try. Pure."""
    if found.in_vain - 1 <= limit:
        return None
    return f"not started again: {_in_vain(found.in_vain - 1)}"


def why_not(verdict: Verdict, found: Past, known: SlurmJob | None, turn: int, limit: int, wanted: bool) -> str | None:
    """Why a job does not stand in the queue again; None: it does; empty: nothing is to be said about it. Pure.

    Args:
        verdict: how its turn ended.
        found: the run's past.
        known: what Slurm says of the job now; None: nothing.
        turn: how often the job had been queued again when this turn began.
        limit: turns in a row without a new checkpoint after which it is over.
        wanted: the profile's.
    """
    lost = verdict.exit_code == LOST and verdict.restart
    if verdict.exit_code != STOPPED and not lost:
        return ""
    if found.over or found.stop_asked:
        return ""
    if known is not None and (known.waits or (known.restarts or 0) > turn or _cancelled(known)):
        return ""  # Slurm has done it itself, or somebody has ended it
    if not wanted:
        return "the profile says requeue: false; submit it again to go on"
    if found.in_vain > limit:
        return f"not queued again: {_in_vain(found.in_vain)}"
    return None


def _cancelled(job: SlurmJob) -> bool:
    """Whether Slurm is ending a job, or has: while it does, it says no more than COMPLETING, whatever the reason is."""
    return job.state not in ALIVE and not (job.state in ("COMPLETING", "TIMEOUT") and job.left_s == 0)


def _in_vain(turns: int) -> str:
    which = "the only turn" if turns == 1 else f"{turns} turns in a row"
    return f"{which} brought no new checkpoint (supervision.max_restarts); is the time limit too short, or the start too slow?"


def stand_in_again(folder: RunDir, verdict: Verdict, reason: str, wanted: bool) -> None:
    """Queue this job again, if that is to be; return when Slurm has it in its queue."""
    job = job_id()
    if job is None:
        return
    limit = load(folder.config).config.supervision.max_restarts
    refusal = why_not(verdict, past(folder), None, restarts(), limit, wanted)
    contained = not slurm_query.present() and WISH in os.environ
    if refusal != "" and not contained:
        known = _known(job)
        # A job that somebody has cancelled would come to life again.
        refusal = NO_ANSWER if known is None else why_not(verdict, past(folder), known, restarts(), limit, wanted)
    if refusal is not None:
        if refusal:
            say(refusal, error=True)
        return
    if fault := _wish(reason) if contained else _requeue(job):
        say(f"could not be queued again ({fault}); submit it again to go on", error=True)
        return
    if contained:  # the next turn writes down that it came
        say(f"asks to be queued again as job {job} ({reason}): it goes on from {newest(folder) or 'the beginning'}")
        return
    # After it: an event that promises a turn that never comes would be worse than none, which the next turn mends.
    note(folder, "requeued", job_id=job, restart=restarts() + 1, checkpoint=newest(folder), reason=reason)
    if past(folder).stop_asked:  # meanwhile; the next turn would only end itself
        slurm_query.call("scancel", job)
        return
    say(f"queued again as job {job} ({reason}): it goes on from {newest(folder) or 'the beginning'}")
    _wait_for_the_queue(job)


def _known(job: str) -> SlurmJob | None:
    """What Slurm says of a job, which may take it a while; None: nothing."""
    end = time.monotonic() + REQUEUE_WITHIN_S
    while (known := slurm_query.details(job)) is None and time.monotonic() < end:
        time.sleep(4 * POLL_S)
    return known


def _wish(reason: str) -> str:
    """In a container: let the job's script ask, outside, for the turn after this one; why that is not possible; empty: it is."""
    path = Path(os.environ[WISH])
    try:
        path.write_text(f"{restarts()} {reason}\n")
    except OSError as fault:
        return f"{path}: {fault.strerror}; is the run folder mounted at its own path?"
    return ""


def _granted() -> str:
    """Why the turn before wished for this one, if it did; the file is taken away."""
    if WISH not in os.environ:
        return ""
    path = Path(os.environ[WISH])
    try:
        turn, _, reason = path.read_text().strip().partition(" ")
        path.unlink()
    except OSError:
        return ""
    return reason if turn == str(restarts() - 1) else ""


def _requeue(job: str) -> str:
    """Ask Slurm; why it would not; empty: it did."""
    end = time.monotonic() + REQUEUE_WITHIN_S
    while True:
        code, _, err = slurm_query.call("scontrol", "requeue", job)
        known = slurm_query.details(job) if code != 0 else None
        # Slurm ends all processes of the turn: the one that asks for it may be ended before it has its answer.
        if code == 0 or (known is not None and (known.waits or (known.restarts or 0) > restarts())):
            return ""
        if not PASSING.search(err) or time.monotonic() > end:
            return slurm_query.last_line(err) or f"scontrol ended with {code}"
        time.sleep(4 * POLL_S)


def _wait_for_the_queue(job: str) -> None:
    """Whoever leaves before the job is in the queue looks like its end."""
    end = time.monotonic() + REQUEUE_WITHIN_S
    while time.monotonic() < end:
        known = slurm_query.details(job)
        if known is not None and (not known.runs or (known.restarts or 0) > restarts()):
            return
        time.sleep(POLL_S)
