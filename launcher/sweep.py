"""``ostinato sweep``: many runs of one config, here or as one job array on Slurm; each is a run like any other (free of torch).

Nothing but the runs' own folders says what is done: the same command goes on with what is missing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher import slurm
from launcher.batch import Batch, Point, ask_slurm, enqueue
from launcher.closing import say
from launcher.grid import GridPoint, axis, base_name, expand
from launcher.plan import asked_workers, run_folder
from launcher.pool import Pool
from launcher.profile import Profile, load_profile
from launcher.results import print_results, results, wait_until_none, winner
from launcher.standing import Facts, Standing, look
from trainer.config.load import Loaded, load
from trainer.errors import DONE, LOST, STOPPED, ConfigError, OstinatoError
from trainer.rundir import RunDir, write_json

SWEEPS = "_sweeps"  # no run can have this name


@dataclass(frozen=True)
class Sweep:
    """The runs of a sweep, checked as far as that goes without torch.

    Args:
        name: of the sweep.
        config: the file.
        overrides: what the command line says for all of them.
        points: what each changes.
        loaded: each run's config.
        root: the folder around the runs.
    """

    name: str
    config: str
    overrides: tuple[str, ...]
    points: tuple[GridPoint, ...]
    loaded: tuple[Loaded, ...]
    root: Path

    @property
    def runs(self) -> list[RunDir]:
        """The run folders."""
        return [RunDir(run_folder(one.config, self.config)) for one in self.loaded]

    @property
    def folder(self) -> Path:
        """What belongs to the sweep as a whole: a job array's files."""
        return self.root / SWEEPS / self.name

    def point(self, number: int) -> Point:
        """One run, as it is submitted."""
        return Point(self.config, (*self.overrides, *self.points[number].overrides))

    def write_down(self) -> None:
        """Say for others which runs belong together."""
        self.folder.mkdir(parents=True, exist_ok=True)
        points = [{"run": run.name, "values": dict(point.values)} for run, point in zip(self.runs, self.points, strict=True)]
        write_json(self.folder / "sweep.json", {"config": self.config, "overrides": list(self.overrides), "points": points})


def sweep(
    config: str,
    overrides: Sequence[str],
    *,
    grid: Sequence[str],
    name: str | None,
    on_slurm: bool,
    profile: str | None,
    options: Mapping[str, Any],
    nproc_per_node: str,
    parallel: int | None,
    dry_run: bool,
    wait: bool,
    as_json: bool,
) -> int:
    """Run a grid, or what is missing of it; 0 if all is well, else how the worst run ended.

    Raises:
        OstinatoError: what a person can mend; nothing was started or queued.
    """
    sys.path.insert(0, str(Path.cwd()))
    found = plan(config, overrides, grid, name)
    workers = asked_workers(nproc_per_node)
    asked = load_profile(profile, {**options, "workers_per_node": workers}) if on_slurm else None
    if asked is not None and asked.executor != "slurm":
        raise ConfigError(f"command line: --profile: executor={asked.executor} runs here; leave --profile out, and say --parallel")
    if asked is None and (said := [key for key, value in options.items() if value is not None]):
        raise ConfigError(f"command line: {said[0]}: goes with --slurm or --profile; here the runs share this machine")
    standings = _standings(found)
    missing = [number for number, one in enumerate(standings) if one.state != "finished" and not one.may_be_on]
    if asked is not None:
        for number in missing:
            slurm.check_run(found.point(number), asked, fresh=False)
        slurm.check_cluster(asked, dry_run=dry_run)
    if unsure := sum(one.unsure for one in standings):
        say(f"sweep {found.name}: {unsure} of {len(standings)} runs left alone: Slurm may have them in its queue", error=True)
    if dry_run:
        _show(found, standings, asked, profile, missing, parallel, as_json)
        return DONE
    _check_targets(found, missing)
    found.write_down()
    if asked is not None:
        code = _in_the_queue(found, asked, profile, missing, parallel, wait)
    else:
        code = _here(found, standings, missing, nproc_per_node, parallel or 1)
    rows = results(found.runs, [dict(point.values) for point in found.points], first := found.loaded[0].config)
    print_results(rows, as_json, winner(rows, first))
    return code


def plan(config: str, overrides: Sequence[str], grid: Sequence[str], name: str | None) -> Sweep:
    """The runs of a sweep; every problem of every one of them, once.

    Raises:
        ConfigError: with all that is wrong; nothing was created.
    """
    if not grid:
        raise ConfigError("command line: sweep: over what? say --grid section.key=value,value")
    axes = [axis(text) for text in grid]
    said = {override.partition("=")[0] for override in overrides}
    if both := [one.key for one in axes if one.key in said]:
        raise ConfigError(f"command line: {both[0]}: stands there twice, alone and after --grid; leave one of them out")
    first = load(config, overrides).config
    title = name if name is not None else (first.run.name or base_name(config, None))
    points = expand(axes, title)
    loaded: list[Loaded] = []
    problems: dict[str, None] = {}
    for point in points:
        try:
            loaded.append(load(config, [*overrides, *point.overrides]))
        except ConfigError as fault:
            problems |= dict.fromkeys(str(fault).splitlines())
    if problems:
        raise ConfigError(*problems)
    return Sweep(title, config, tuple(overrides), tuple(points), tuple(loaded), Path(first.run.root))


def _standings(found: Sweep, *, quiet: bool = False) -> list[Standing]:
    """How the runs stand; one that is not there yet has no folder.

    Args:
        found: the sweep.
        quiet: ask again and again, without a word about a Slurm that does not answer.

    Raises:
        OstinatoError: one cannot be read.
    """
    runs = found.runs
    there = [run for run in runs if run.exists()]
    known, warning = look(there)
    if warning and not quiet:
        say(f"ostinato: {warning}", error=True)
    by_path = dict(zip((run.path for run in there), known, strict=True))
    standings = []
    for run in runs:
        one = by_path.get(run.path, Standing(Facts(run), "missing"))
        if isinstance(one, OstinatoError):
            raise one
        standings.append(one)
    return standings


def _in_slurm(one: Standing) -> bool:
    return one.unsure or (one.job is not None and one.job.lives)


def _check_targets(found: Sweep, missing: Sequence[int]) -> None:
    """Before the first one starts, each one's models and data sets get the arguments that they know.

    Raises:
        ConfigError: with what is wrong in any of them.
    """
    if not missing:
        return
    from trainer.config.targets import check_targets

    problems: dict[str, None] = {}
    for number in missing:
        try:
            check_targets(found.loaded[number])
        except ConfigError as fault:
            problems |= dict.fromkeys(str(fault).splitlines())
    if problems:
        raise ConfigError(*problems)


def _batch(found: Sweep, asked: Profile, profile: str | None, missing: Sequence[int], parallel: int | None) -> Batch:
    configs = [found.loaded[number].config for number in missing]
    grace_s = max(config.supervision.grace_s for config in configs)
    return Batch(asked, profile, (found.folder / "slurm").absolute(), found.name, grace_s, parallel or len(missing))


def _in_the_queue(found: Sweep, asked: Profile, profile: str | None, missing: Sequence[int], parallel: int | None, wait: bool) -> int:
    if missing:
        batch, tree = _batch(found, asked, profile, missing, parallel), slurm.code_here(found.root)
        ask_slurm(batch, tree, len(missing))
        ids = enqueue(batch, [found.point(number) for number in missing], tree, fresh=False)
        say(f"sweep {found.name}: {len(missing)} of {len(found.points)} runs queued as job {ids[0].partition('_')[0]}", error=True)
    else:
        say(f"sweep {found.name}: nothing is missing", error=True)
    if not wait:
        return DONE
    wait_until_none(lambda: [one for one in _standings(found, quiet=True) if one.may_be_on])
    return worst(_standings(found))


def _here(found: Sweep, standings: Sequence[Standing], missing: Sequence[int], nproc_per_node: str, parallel: int) -> int:
    """Run the missing ones on this machine, and wait for those that are under way here."""
    queued = [number for number, one in enumerate(standings) if _in_slurm(one)]
    for number in queued:
        say(f"{found.points[number].name}: left alone, it is job {standings[number].facts.job_id} in Slurm", error=True)
    running = [number for number, one in enumerate(standings) if one.may_be_on and number not in queued]
    commands = {}
    for number in (*missing, *running):
        point = found.point(number)
        commands[found.points[number].name] = ["train", point.config, *point.overrides, "--nproc-per-node", nproc_per_node]
    pool = Pool(commands, {run.name: run for run in found.runs}, found.folder, parallel)
    stopped = pool.run()
    if stopped:
        say(f"sweep {found.name}: stopped; the same command goes on", error=True)
        return STOPPED
    return worst([one for number, one in enumerate(_standings(found)) if number not in queued])


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


def _show(
    found: Sweep,
    standings: Sequence[Standing],
    asked: Profile | None,
    profile: str | None,
    missing: Sequence[int],
    parallel: int | None,
    as_json: bool,
) -> None:
    """A dry run: the points and how they stand, and the script for sbatch."""
    script = None
    if asked is not None and missing:
        script = _batch(found, asked, profile, missing, parallel).script(slurm.code_here(found.root), len(missing))
    rows = [
        {"run": str(one.facts.run.path), "state": one.state, "values": dict(point.values)}
        for one, point in zip(standings, found.points, strict=True)
    ]
    if as_json:
        print(json.dumps({"name": found.name, "points": rows, "script": script}, indent=2))
        return
    for row in rows:
        print(f"{row['run']}: {row['state']}")
    if script is not None:
        print(f"\n{script}")
