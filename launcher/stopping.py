"""``ostinato stop`` and ``ostinato resume``: runs that are under way are asked to stop, and stopped ones go on (free of torch)."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from launcher import slurm_query
from launcher.closing import done_line, newest, say
from launcher.slurm_query import SlurmJob, call, last_line
from launcher.standing import Standing, lock_of, look_at, read, whole
from launcher.tail import newest_rows
from trainer.config.load import load
from trainer.errors import DONE, LOST, OstinatoError, RunFolderError
from trainer.rundir import RunDir
from trainer.stop import PAUSE

POLL_S = 0.1
ASK_SLURM_EVERY_S = 1.0
ASK_AGAIN_S = 5.0  # a step that was just being started has not got the signal
# To the steps and not to the batch shell: the launchers on the nodes stop with a checkpoint, and the script ends after them.
TERMINATE = ("scancel", "--signal=TERM")
INTERRUPTED = 130


@dataclass
class _Asked:
    """A run that was asked to stop, and how to see that it has.

    Args:
        run: the run.
        text: what to say about it.
        process: its launcher, on this machine.
        job_id: its job in Slurm.
        since: when it was asked last, on the monotonic clock.
    """

    run: RunDir
    text: str
    process: psutil.Process | None = None
    job_id: str | None = None
    since: float = field(default_factory=time.monotonic)
    looked: float = 0.0

    def gone(self) -> bool:
        """Whether it runs no more, and will not by itself."""
        if self.process is not None:
            with suppress(psutil.NoSuchProcess):
                if self.process.is_running() and self.process.status() != psutil.STATUS_ZOMBIE:
                    return False
            self.process = None
        return self.job_id is None or self._left_the_queue(self.job_id)

    def _left_the_queue(self, job_id: str) -> bool:
        now = time.monotonic()
        if now - self.looked < ASK_SLURM_EVERY_S:
            return False
        self.looked = now
        answer = slurm_query.ask([job_id])
        job = answer.jobs.get(job_id)
        if job is not None and job.waits:  # taken back into the queue at this very moment
            call("scancel", job_id)
            return False
        if job is not None and job.state == "RUNNING" and now - self.since >= ASK_AGAIN_S and read(self.run).event != "stopped":
            self.since = now
            call(*TERMINATE, _steps_of(job_id))
        return answer.asked and not (job is not None and job.lives)


def stop(runs: Sequence[str], *, wait: bool = True) -> int:
    """Ask runs to stop with a checkpoint, and wait until they have.

    Args:
        runs: run folders.
        wait: stay until they have stopped.

    Returns:
        0: none of them runs; else how the worst of them ended, or 2 where one cannot be stopped from here.
    """
    codes, asked = [DONE], list[_Asked]()
    try:
        for run in runs:
            try:
                one = _ask(RunDir(run))
            except OstinatoError as fault:
                say(f"ostinato: {fault}", error=True)
                codes.append(fault.exit_code)
                continue
            if one is not None:
                asked.append(one)
                say(one.text)
        while wait and asked:
            for one in [one for one in asked if one.gone()]:
                asked.remove(one)
                codes.append(_tell_end(one.run))
            if asked:
                time.sleep(POLL_S)
    except KeyboardInterrupt:
        names = ", ".join(one.run.name for one in asked) or "nothing"
        say(f"ostinato: no longer waiting; asked to stop: {names}; ostinato status says when it has", error=True)
        return INTERRUPTED
    return max(codes)


def _ask(run: RunDir) -> _Asked | None:
    """Ask one run to stop; None: there is nothing to wait for.

    Raises:
        RunFolderError: no run, or it cannot be stopped from here.
    """
    standing, warning = look_at(run)
    facts, job = standing.facts, standing.job
    if job is not None and job.lives:
        return _ask_slurm(run, job, standing)
    if facts.held and facts.named.here:
        try:
            process = _launcher(run, facts.named.pid)
        except RunFolderError:
            if lock_of(run.lock) == (facts.held, facts.named):
                raise
            return _ask(run)  # it has ended meanwhile, or gone over to somebody else
        with suppress(OSError):  # a full disk must not keep it from being stopped
            run.event("stop-requested", by="user", job_id=None)
        _signal(run, process)
        return _Asked(run, f"{run.name}: asked to stop (process {process.pid})", process)
    if standing.on or standing.unsure:
        if warning is not None:
            raise RunFolderError(f"{run.path}: {warning}; it was not stopped, try again")
        if not facts.held and facts.job_id is not None and standing.state == "waiting":
            raise RunFolderError(f"{run.path}: is job {facts.job_id} of a Slurm that cannot be asked from here; stop it where that is")
        raise RunFolderError(f"{run.path}: is run by {facts.named}; stop it there: ostinato stop {shlex.quote(str(run.path))}")
    say(f"{run.name}: does not run: {_end_of(standing)}")
    return None


def _ask_slurm(run: RunDir, job: SlurmJob, standing: Standing) -> _Asked:
    try:
        run.event("stop-requested", by="user", job_id=job.job_id)
    except OSError as fault:
        ended = f"scancel {job.job_id} ends it at once"
        raise RunFolderError(
            f"{run.events}: cannot be written ({fault.strerror}), so job {job.job_id} would be requeued; {ended}"
        ) from fault
    command = ("scancel", job.job_id) if job.waits else (*TERMINATE, _steps_of(job.job_id))
    code, _, err = call(*command)
    if code != 0:
        raise RunFolderError(f"{run.path}: job {job.job_id} could not be asked to stop ({last_line(err)})")
    text = f"{run.name}: {'taken from the queue' if job.waits else 'asked to stop'} (Slurm job {job.job_id})"
    process = None
    if standing.facts.held and standing.facts.named.here and job.waits:  # somebody goes on with it here meanwhile
        process = _launcher(run, standing.facts.named.pid)
        _signal(run, process)
    return _Asked(run, text, process, job.job_id)


def _steps_of(job_id: str) -> str:
    """Whom to signal: all steps of a job, but of an array's task the one that our script starts.

    While others of the array wait, scancel sends a signal to the task, is told that the array is in transition, and sends it again.
    Where that step has not begun, nobody hears it; the job reads the event when it begins.
    """
    return f"{job_id}.0" if "_" in job_id else job_id


def _launcher(run: RunDir, pid: int | None) -> psutil.Process:
    """The process that holds the run's lock, which must be the one that is named there: numbers are used again.

    Raises:
        RunFolderError: it is not, or that cannot be seen.
    """
    try:
        process = psutil.Process(pid)
        opened = [Path(file.path) for file in process.open_files()]
        mine = any(path.name == run.lock.name and path.samefile(run.lock) for path in opened)
    except psutil.AccessDenied as fault:
        raise RunFolderError(f"{run.path}: is run by process {pid} of another user, who alone can stop it") from fault
    except (psutil.NoSuchProcess, OSError):
        mine = False
    if not mine:
        raise RunFolderError(f"{run.lock}: process {pid} is named there and does not hold it; who does cannot be seen from here")
    return process


def _signal(run: RunDir, process: psutil.Process) -> None:
    try:
        process.terminate()
    except psutil.NoSuchProcess:
        pass
    except psutil.AccessDenied as fault:
        raise RunFolderError(f"{run.path}: is run by process {process.pid} of another user, who alone can stop it") from fault


def _tell_end(run: RunDir) -> int:
    """Say how a run stands that was asked to stop and runs no more."""
    standing, _ = look_at(run)
    well = standing.state in ("stopped", "finished", "created")
    say(f"{run.name}: {_end_of(standing)}", error=not well)
    if well:
        return DONE
    code = whole(standing.facts.last.get("exit_code"))
    return LOST if code is None else code


def _end_of(standing: Standing) -> str:
    """How a run that nobody runs ended, and how it goes on."""
    run, step = standing.facts.run, standing.facts.step
    text = standing.state + (f" ({standing.detail})" if standing.detail else "")
    if standing.state == "finished":
        return text
    if standing.state == "stopped" and step is not None and standing.facts.event == "stopped":
        text += f" at step {step}"
    checkpoint = newest(run)
    where = f"with checkpoint {checkpoint}" if checkpoint else "with no checkpoint yet"
    return f"{text} {where}; ostinato resume {shlex.quote(str(run.path))} goes on"


def resume(run: str, *, nproc_per_node: str | None = None) -> int:
    """Go on with a run on this machine, from its own config and from any folder.

    Args:
        run: the run folder.
        nproc_per_node: workers here, or ``auto``; None: as many as at its last start, if that was no job of Slurm.

    Raises:
        RunFolderError: no run, or it is under way.
    """
    from launcher import local
    from launcher.plan import Seat

    folder = RunDir(Path(run).absolute())
    folder.must_exist(run)
    standing, warning = look_at(folder)
    if standing.state == "finished":
        say(f"run {folder.name}: finished already")
        say(done_line(folder))
        return DONE
    in_slurm = standing.job is not None and standing.job.lives
    if standing.state == "running" or in_slurm:
        by = f"job {standing.facts.job_id} in Slurm" if in_slurm else str(standing.facts.named)
        raise RunFolderError(f"{run}: is {standing.state} already ({by}); wait for it, or stop it: ostinato stop {shlex.quote(run)}")
    if warning:
        say(f"ostinato: {warning}; see to it that job {standing.facts.job_id} is not in its queue", error=True)
    on = [f"{PAUSE}=null"] if standing.facts.last.get("reason") == PAUSE else []  # it would stop again at once
    if standing.facts.job_id is not None and slurm_query.present():
        words = " ".join(["ostinato submit", shlex.quote(f"{run}/config.yaml"), *on])
        say(f"its newest submission was Slurm job {standing.facts.job_id}; {words} goes on there")
    overrides, where = as_it_was_started(folder)
    overrides = [*overrides, *on]
    os.chdir(where)
    workers = nproc_per_node or _workers_before(standing)
    sys.stdout.flush()
    return local.train(str(folder.config), overrides, nproc_per_node=workers, fresh=False, dry_run=False, as_json=False, seat=Seat())


def as_it_was_started(folder: RunDir) -> tuple[list[str], Path]:
    """What must be said besides the run's config, and the folder from which its paths are meant: data, a user's own modules.

    ``run.root`` is as it was typed. Where it is relative, and the run still lies there, the rest of its path is that folder. A run that
    was renamed or moved gets its present place.
    """
    config = load(folder.config).config
    root = Path(config.run.root)
    above = folder.path.parent
    overrides = [] if config.run.name == folder.name else [f"run.name={json.dumps(folder.name)}"]
    if root.is_absolute():
        return overrides + ([] if _same(root, above) else [_root(above)]), Path.cwd()
    candidate = Path(os.path.normpath(above.joinpath(*[".."] * len(root.parts)))) if ".." not in root.parts else above
    if _same(candidate / root, above):
        return overrides, candidate
    return [*overrides, _root(above)], Path.cwd()


def _root(path: Path) -> str:
    return f"run.root={json.dumps(str(path), ensure_ascii=False)}"


def _same(one: Path, two: Path) -> bool:
    with suppress(OSError):
        return one.samefile(two)
    return False


def _workers_before(standing: Standing) -> str:
    """As many workers as at the last start on this machine."""
    if standing.facts.submission:
        return "auto"
    rows: Any = newest_rows(standing.facts.run.events)
    for row in rows:
        if row.get("event") in ("started", "resumed") and (workers := whole(row.get("workers"))):
            return str(workers)
    return "auto"
