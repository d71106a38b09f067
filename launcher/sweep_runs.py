"""One rung of a sweep: its runs on this machine, or as one job array in Slurm (free of torch)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from launcher import slurm
from launcher.batch import Batch, ask_slurm, enqueue
from launcher.closing import say
from launcher.pool import Pool
from launcher.profile import Profile
from launcher.results import wait_until_none
from launcher.standing import Standing
from launcher.sweep_plan import LOGS, Sweep
from trainer.errors import DONE, LOST, STOPPED


@dataclass(frozen=True)
class Here:
    """The runs on this machine, a bounded number at a time."""

    waits = True

    def check(self, found: Sweep, missing: Sequence[int], rung: int) -> None:
        """Nothing has to be asked here."""

    def carry_out(self, found: Sweep, standings: Sequence[Standing], todo: Sequence[int], rung: int) -> bool:
        """Run them, and wait for those that somebody else runs here; whether a stop was asked for meanwhile."""
        commands = {}
        for number in sorted(todo, key=lambda number: standings[number].may_be_on):
            if is_queued(standings[number]):
                say(f"{found.points[number].name}: left alone, it is job {standings[number].facts.job_id} in Slurm", error=True)
                continue
            point = found.point(number, rung)
            commands[found.points[number].name] = ["train", point.config, *point.overrides, "--nproc-per-node", found.wish.workers]
        pool = Pool(commands, {run.name: run for run in found.runs}, found.folder / LOGS, found.wish.parallel or 1)
        stopped = pool.run()
        if stopped:
            say(f"sweep {found.name}: stopped; the same command goes on", error=True)
        return stopped

    def script(self, found: Sweep, missing: Sequence[int], rung: int) -> str | None:
        """Nothing is handed to a queue."""
        return None


@dataclass(frozen=True)
class Queue:
    """The runs as one job array in Slurm.

    Args:
        profile: what to ask for; name: what it is called.
        waits: stay until they have ended.
    """

    profile: Profile
    name: str | None
    waits: bool

    def check(self, found: Sweep, missing: Sequence[int], rung: int) -> None:
        """All that can be said against them without creating anything.

        Raises:
            OstinatoError: with what is wrong.
        """
        for number in missing:
            slurm.check_run(found.point(number, rung), self.profile, fresh=False)
        slurm.check_cluster(self.profile, dry_run=found.wish.dry_run)

    def carry_out(self, found: Sweep, standings: Sequence[Standing], todo: Sequence[int], rung: int) -> bool:
        """Queue those that are not in the queue yet, and wait for all, if that is asked; never stopped."""
        missing = [number for number in todo if not standings[number].may_be_on]
        if missing:
            batch, tree = self._batch(found, missing), slurm.code_here(found.root)
            ask_slurm(batch, tree, len(missing))
            ids = enqueue(batch, [found.point(number, rung) for number in missing], tree, fresh=False)
            count = f"{len(missing)} of {found.ladder[rung].runs} runs queued as job {ids[0].partition('_')[0]}"
            say(f"sweep {found.name}: {count}", error=True)
        else:
            say(f"sweep {found.name}: nothing to queue, {len(todo)} under way", error=True)
        if self.waits:
            wait_until_none(lambda: [one for number, one in enumerate(found.standings(quiet=True)) if number in todo and one.may_be_on])
        return False

    def script(self, found: Sweep, missing: Sequence[int], rung: int) -> str | None:
        """What would be submitted."""
        return self._batch(found, missing).script(slurm.code_here(found.root), len(missing)) if missing else None

    def _batch(self, found: Sweep, missing: Sequence[int]) -> Batch:
        grace_s = max(found.loaded[number].config.supervision.grace_s for number in missing)
        jobs = (found.folder / "slurm").absolute()
        return Batch(self.profile, self.name, jobs, found.name, grace_s, found.wish.parallel or len(missing))


def is_queued(one: Standing) -> bool:
    """Whether Slurm has a run, or may have it."""
    return one.unsure or (one.job is not None and one.job.lives)


def worst(standings: Sequence[Standing]) -> int:
    """The exit code for many runs: 0 if all are finished, else what is worst. Pure."""
    codes = [DONE]
    for one in standings:
        if one.state == "failed":
            codes.append(int(one.facts.last.get("exit_code") or LOST))
        elif one.state == "stopped":
            codes.append(STOPPED)
        elif one.state != "finished":
            codes.append(LOST)
    return max(codes, key=lambda code: (code not in (DONE, STOPPED), code))
