"""What a sweep is: its points, each checked as far as that goes without torch, and what is to be done next (free of torch)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.batch import Point
from launcher.closing import say
from launcher.evaluations import evaluations, saved_epochs, seen, watched
from launcher.grid import GridPoint, chosen, expand
from launcher.halving import Rung, Seen, Turn, next_turn, rungs
from launcher.plan import run_folder
from launcher.space import axis
from launcher.standing import Facts, Standing, look
from trainer.config.load import Loaded, load
from trainer.config.schema import Config
from trainer.errors import ConfigError, OstinatoError, RunFolderError
from trainer.files import make_private
from trainer.rundir import RunDir, read_json, write_json
from trainer.stop import PAUSE

SWEEPS = "_sweeps"  # no run can have this name
ABOUT = "sweep.json"
LOGS = "logs"


@dataclass(frozen=True)
class Wish:
    """What the command line says.

    Args:
        config: the file; overrides: for all runs.
        grid: the axes; random: so many points drawn from them, with `seed`; None: all combinations.
        eta: of successive halving; None: every run trains to its end.
        name: of the sweep.
        workers: of each run on each machine, or ``auto``; parallel: runs at a time.
        wait: stay until jobs in Slurm have ended.
        dry_run: start nothing; as_json: print JSON.
    """

    config: str
    overrides: tuple[str, ...] = ()
    grid: tuple[str, ...] = ()
    random: int | None = None
    seed: int = 0
    eta: int | None = None
    name: str | None = None
    workers: str = "auto"
    parallel: int | None = None
    wait: bool = False
    dry_run: bool = False
    as_json: bool = False


@dataclass(frozen=True)
class Sweep:
    """The runs of a sweep.

    Args:
        name: of the sweep.
        wish: what was asked.
        points: what each run changes.
        loaded: each run's config.
        ladder: the rungs; one, if every run trains to its end.
    """

    name: str
    wish: Wish
    points: tuple[GridPoint, ...]
    loaded: tuple[Loaded, ...]
    ladder: tuple[Rung, ...]

    @property
    def root(self) -> Path:
        """The folder around the runs."""
        return Path(self.loaded[0].config.run.root)

    @property
    def runs(self) -> list[RunDir]:
        """The run folders."""
        return [RunDir(run_folder(one.config, self.wish.config)) for one in self.loaded]

    @property
    def folder(self) -> Path:
        """What belongs to the sweep as a whole."""
        return self.root / SWEEPS / self.name

    def point(self, number: int, rung: int) -> Point:
        """One run, as it is started for a rung."""
        end = self.ladder[rung]
        pause = () if end.last else (f"{PAUSE}={end.epoch}",)
        return Point(self.wish.config, (*self.wish.overrides, *self.points[number].overrides, *pause))

    def members(self) -> list[tuple[RunDir, dict[str, str]]]:
        """The runs and what each changes: these, and those that earlier commands of the same sweep had besides.

        Raises:
            ConfigError: a sweep of this name was over other keys.
        """
        found = [(run, dict(point.values)) for run, point in zip(self.runs, self.points, strict=True)]
        names, keys = {run.name for run in self.runs}, {key for key, _ in self.points[0].values}
        for name, values in points_of(self.folder) or ():
            if set(values) != keys:
                raise ConfigError(
                    f"command line: sweep: {self.folder} has the results of one over {', '.join(values)}; give this one a --name of its own"
                )
            if name not in names:
                found.append((RunDir(self.root / name), values))
        return found

    def write_down(self) -> None:
        """Say for others which runs belong together.

        Raises:
            RunFolderError: it cannot be written.
        """
        points = [{"run": run.name, "values": values} for run, values in self.members()]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            make_private(self.folder / LOGS)
            write_json(self.folder / ABOUT, {"config": self.wish.config, "overrides": list(self.wish.overrides), "points": points})
        except OSError as fault:
            raise RunFolderError(f"{self.folder}: cannot be written ({fault.strerror}); name another folder (run.root)") from fault

    def standings(self, *, quiet: bool = False) -> list[Standing]:
        """How the runs stand; one that is not there yet has no folder.

        Args:
            quiet: ask again and again, without a word about a Slurm that does not answer.

        Raises:
            OstinatoError: one cannot be read.
        """
        runs = self.runs
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

    def next_turn(self, standings: Sequence[Standing], tried: Collection[int] = ()) -> Turn:
        """What is to be done next, and by which runs; those that are under way are among them.

        Args:
            standings: how the runs stand.
            tried: those that were started already since the command was typed.
        """
        if self.wish.eta is None:
            todo = tuple(number for number, one in enumerate(standings) if one.state != "finished")
            return Turn(0 if todo else 1, todo, todo, {})
        # Before the metrics, which are written first: else a run could have been saved meanwhile, and seem to have no figure for it.
        saved = [saved_epochs(one.facts.run) if one.state != "missing" else 0 for one in standings]
        rows = [evaluations(one.facts.run) if one.state != "missing" else [] for one in standings]
        metric, more = watched(self.loaded[0].config, [row for each in rows for row in each])
        known = [
            seen(one, each, metric, epochs) if one.state != "missing" else Seen()
            for one, each, epochs in zip(standings, rows, saved, strict=True)
        ]
        return next_turn(known, self.ladder, self.wish.eta, more, tried)


def points_of(folder: Path) -> list[tuple[str, dict[str, str]]] | None:
    """What a sweep's folder says: its runs' names and what each changes; None: it says nothing that can be read."""
    try:
        points: list[dict[str, Any]] = read_json(folder / ABOUT)["points"]
        return [(str(point["run"]), {str(key): str(value) for key, value in point["values"].items()}) for point in points]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def plan(wish: Wish) -> Sweep:
    """The runs of a sweep; every problem of every one of them, once.

    Raises:
        ConfigError: with all that is wrong; nothing was created.
    """
    if not wish.grid:
        raise ConfigError("command line: sweep: over what? say --grid section.key=value,value")
    axes = [axis(text) for text in wish.grid]
    said = {override.partition("=")[0] for override in wish.overrides}
    if both := [one.key for one in axes if one.key in said]:
        raise ConfigError(f"command line: {both[0]}: stands there twice, alone and after --grid; leave one of them out")
    first = load(wish.config, wish.overrides).config
    title = wish.name if wish.name is not None else (first.run.name or Path(wish.config).stem)
    points = expand(axes, title) if wish.random is None else chosen(axes, title, wish.seed, wish.random)
    loaded: list[Loaded] = []
    problems: dict[str, None] = {}
    for point in points:
        try:
            loaded.append(load(wish.config, [*wish.overrides, *point.overrides]))
        except ConfigError as fault:
            problems |= dict.fromkeys(str(fault).splitlines())
    if problems:
        raise ConfigError(*problems)
    found = Sweep(title, wish, tuple(points), tuple(loaded), tuple(_ladder([one.config for one in loaded], wish.eta)))
    found.members()
    return found


def _ladder(configs: Sequence[Config], eta: int | None) -> list[Rung]:
    """The rungs.

    Raises:
        ConfigError: these runs cannot be halved.
    """
    trains = [config.train for config in configs]
    if eta is None:
        return [Rung(max(train.epochs for train in trains), len(configs), last=True)]
    alike = {(train.epochs, train.max_steps, train.evaluate_every, train.monitor, train.monitor_mode) for train in trains}
    problem = ""
    if len(alike) > 1:
        problem = (
            "the runs are compared after the same epochs by the same metric; leave train.epochs, evaluate_every and monitor as they are"
        )
    elif any(config.data.valid is None and config.data.valid_fraction is None for config in configs):
        problem = "runs are compared by their validation; set data.valid or data.valid_fraction"
    elif trains[0].max_steps is not None:
        problem = "it counts in epochs; leave train.max_steps out and set train.epochs"
    elif any(config.run.pause_after_epoch is not None for config in configs):
        problem = f"it says itself when a run pauses; leave {PAUSE} out"
    found = [] if problem else rungs(len(configs), trains[0].epochs, eta, trains[0].evaluate_every)
    if len(found) == 1:
        problem = f"{len(configs)} runs of {trains[0].epochs} epochs cannot be halved by {eta}; it takes {eta} of both at least"
    if problem:
        raise ConfigError(f"command line: --halving: {problem}")
    return found
