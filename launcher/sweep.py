"""``ostinato sweep``: many runs of one config, here or as job arrays on Slurm; each is a run like any other (free of torch).

Nothing but the runs' own folders says what is done: the same command goes on with what is missing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from launcher.closing import say
from launcher.halving import Turn
from launcher.plan import asked_workers
from launcher.profile import load_profile
from launcher.results import keep, print_results, results
from launcher.standing import Standing
from launcher.sweep_plan import Sweep, Wish, plan
from launcher.sweep_runs import Here, Queue, is_queued, worst
from launcher.sweep_settings import refuse_others
from trainer.errors import DONE, STOPPED, TRAINING_FAILED, ConfigError, OstinatoError


def sweep(wish: Wish, *, on_slurm: bool, profile: str | None, options: Mapping[str, Any]) -> int:
    """Run a sweep, or what is missing of it; 0 if all is well, else how the worst run ended.

    Args:
        wish: what is wanted.
        on_slurm: as job arrays on Slurm.
        profile: what to ask for there.
        options: the same, one by one.

    Raises:
        OstinatoError: what a person can mend; nothing was started or queued.
    """
    sys.path.insert(0, str(Path.cwd()))
    found = plan(wish)
    place = _place(wish, on_slurm, profile, options)
    standings = found.standings()
    refuse_others(found, standings)
    turn = found.next_turn(standings)
    missing = [number for number in turn.todo if not standings[number].may_be_on]
    place.check(found, missing, turn.rung)
    if unsure := sum(one.unsure for one in standings):
        say(f"sweep {found.name}: {unsure} of {len(standings)} runs left alone: Slurm may have them in its queue", error=True)
    if wish.dry_run:
        _show(found, standings, turn, place.script(found, missing, turn.rung))
        return DONE
    _check_targets(found, missing)
    found.write_down()
    code = _all_rungs(found, place)
    _write_up(found, page=code != STOPPED and (place.waits or not missing))
    return code


def _place(wish: Wish, on_slurm: bool, profile: str | None, options: Mapping[str, Any]) -> Here | Queue:
    workers = asked_workers(wish.workers)
    if on_slurm:
        asked = load_profile(profile, {**options, "workers_per_node": workers})
        if asked.executor != "slurm":
            raise ConfigError(f"command line: --profile: executor={asked.executor} runs here; leave --profile out, and say --parallel")
        return Queue(asked, profile, wish.wait)
    if said := [key for key, value in options.items() if value is not None]:
        raise ConfigError(f"command line: {said[0]}: goes with --slurm or --profile; here the runs share this machine")
    return Here()


def _all_rungs(found: Sweep, place: Here | Queue) -> int:
    """Rung after rung, as far as it goes now; the exit code."""
    tried: set[tuple[int, int]] = set()
    told: set[int] = set()
    while True:
        standings = found.standings(quiet=bool(tried))
        turn = found.next_turn(standings, {number for _, number in tried})
        _tell(found, turn, told)
        left = [number for number in turn.todo if (turn.rung, number) not in tried]
        if not left:
            return _code(found, standings, turn)
        _say_rung(found, turn)
        tried |= {(turn.rung, number) for number in left}
        if place.carry_out(found, standings, left, turn.rung):
            return STOPPED
        if not place.waits:
            if not found.ladder[turn.rung].last:
                say(f"when they have ended, the same command queues rung {turn.rung + 2} of {len(found.ladder)}", error=True)
            return DONE


def _code(found: Sweep, standings: Sequence[Standing], turn: Turn) -> int:
    """The exit code when there is nothing left to start."""
    if found.wish.eta is None:
        if not turn.todo:
            say(f"sweep {found.name}: nothing is missing", error=True)
        return worst([one for one in standings if not is_queued(one)])
    if turn.todo:
        names = ", ".join(found.points[number].name for number in turn.todo)
        say(f"sweep {found.name}: rung {turn.rung + 1} is not over: {names}; the same command goes on", error=True)
        return worst([standings[number] for number in turn.todo])
    if not turn.entrants:
        say(f"sweep {found.name}: no run is left", error=True)
        return worst([one for one in standings if one.state == "failed"]) or TRAINING_FAILED
    say(f"sweep {found.name}: nothing is missing", error=True)
    return DONE


def _tell(found: Sweep, turn: Turn, told: set[int]) -> None:
    """Say, once, which points are out for a fault; those that others were better than are seen by who goes on."""
    for number, reason in turn.out.items():
        if number not in told and not reason.startswith("not among"):
            say(f"{found.points[number].name}: out, {reason}", error=True)
        told.add(number)


def _say_rung(found: Sweep, turn: Turn) -> None:
    if found.wish.eta is None:
        return
    rung, count = found.ladder[turn.rung], len(turn.entrants)
    names = f": {', '.join(found.points[number].name for number in turn.entrants)}" if turn.rung else ""
    runs = f"{count} run{'' if count == 1 else 's'}"
    say(f"rung {turn.rung + 1} of {len(found.ladder)}, up to epoch {rung.epoch}, {runs}{names}", error=True)


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


def _write_up(found: Sweep, *, page: bool) -> None:
    """Print the table, keep it, and write the report; what cannot be written ends nothing."""
    members = found.members()
    table = results([run for run, _ in members], [values for _, values in members], found.loaded[0].config)
    try:
        keep(table, found.folder)
        if page:
            from launcher.report.command import report

            report([str(found.folder)], quiet=True)
            say(f"report: {found.folder / 'report.html'}", error=True)
    except (OSError, OstinatoError) as fault:
        say(f"warning: the results could not be kept: {fault}", error=True)
    print_results(table, found.wish.as_json)


def _show(found: Sweep, standings: Sequence[Standing], turn: Turn, script: str | None) -> None:
    """A dry run: the points and how they stand, the rungs, and the script for sbatch."""
    rows = [
        {"run": str(one.facts.run.path), "state": one.state, "values": dict(point.values), "out": turn.out.get(number)}
        for number, (one, point) in enumerate(zip(standings, found.points, strict=True))
    ]
    if found.wish.as_json:
        ladder = [{"epoch": rung.epoch, "runs": rung.runs} for rung in found.ladder]
        print(json.dumps({"name": found.name, "points": rows, "rungs": ladder, "script": script}, indent=2))
        return
    for row in rows:
        print(f"{row['run']}: {row['state']}" + (f", out: {row['out']}" if row["out"] else ""))
    for number, rung in enumerate(found.ladder if found.wish.eta is not None else ()):
        end = "to the end" if rung.last else f"up to epoch {rung.epoch}"
        print(f"rung {number + 1}: {rung.runs} run{'' if rung.runs == 1 else 's'} {end}" + (", now" if number == turn.rung else ""))
    if script is not None:
        print(f"\n{script}")
