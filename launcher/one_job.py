"""One job a run: two would fight for its folder, and nobody would know of the one that is not written down (free of torch)."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from launcher.standing import Standing, look
from trainer.errors import OstinatoError, RunFolderError
from trainer.rundir import RunDir, RunLock

SUBMITTING = ".submitting"
SUBMITTED_WITHIN_S = 60.0


@contextmanager
def alone(roots: Iterable[Path]) -> Iterator[None]:
    """One submission at a time below these folders, from the look whether a run is under way to the line that it is.

    Raises:
        RunFolderError: another one does not come to its end.
    """
    with ExitStack() as stack:
        for root in sorted(set(roots)):
            root.mkdir(parents=True, exist_ok=True)
            lock = _lock_within(root / SUBMITTING, SUBMITTED_WITHIN_S)
            stack.callback(lock.release)
            stack.callback(lock.path.unlink, missing_ok=True)
        yield


def _lock_within(path: Path, within_s: float) -> RunLock:
    end = time.monotonic() + within_s
    while True:
        try:
            return RunLock(path)
        except RunFolderError as fault:
            if not isinstance(fault.__cause__, BlockingIOError):
                raise
            if time.monotonic() > end:
                raise RunFolderError(f"{path}: another submission is under way, or hangs ({fault})") from fault
        time.sleep(0.1)


def refuse_what_is_under_way(folders: Sequence[RunDir]) -> None:
    """One job a run: two would fight for its folder.

    Raises:
        RunFolderError: one is under way, or Slurm does not say whether it is.
    """
    standings, warning = look([folder for folder in folders if folder.exists()])
    for standing in standings:
        if isinstance(standing, OstinatoError):
            raise standing
        _refuse(standing, warning)


def _refuse(standing: Standing, warning: str | None) -> None:
    folder = standing.facts.run
    if standing.unsure:
        raise RunFolderError(f"{folder.path}: job {standing.facts.job_id} may have it under way: {warning}; try again later")
    if standing.may_be_on:
        by = f"job {standing.facts.job_id} in Slurm" if standing.job is not None and standing.job.lives else str(standing.facts.named)
        raise RunFolderError(f"{folder.path}: is {standing.state} already ({by}); wait for it, or end it: ostinato stop {folder.path}")
