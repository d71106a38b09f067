"""Whether the runs that a sweep finds were made with the settings that it has now (free of torch)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from launcher.grid import GridPoint
from launcher.standing import Standing
from launcher.sweep_plan import Sweep
from trainer.config.load import as_settled, differences, load
from trainer.config.schema import Config
from trainer.errors import ConfigError, RunFolderError
from trainer.rundir import RunDir


def refuse_others(found: Sweep, standings: Sequence[Standing]) -> None:
    """Refuse runs with other settings: what they have reached would stand in the table as if it came from those that are asked for now.

    Runs in which nothing was trained are made anew when they start, so what they were to be does not matter.

    Args:
        found: the sweep.
        standings: how its runs stand.

    Raises:
        RunFolderError: names the first one, and what differs.
    """
    others = [(run, changed) for run, config in _results(found, standings) if (changed := _changes(run, config))]
    if not others:
        return
    run, changed = others[0]
    more = f", and {len(others) - 1} more of this sweep" if len(others) > 1 else ""
    raise RunFolderError(
        f"{run.path}: the run was made with other settings ({'; '.join(changed)}){more}; give this sweep a --name of its own"
    )


def _results(found: Sweep, standings: Sequence[Standing]) -> Iterator[tuple[RunDir, Config]]:
    """The runs whose results the sweep would take, those of earlier commands among them, each with the config that it has now."""
    for run, loaded, one in zip(found.runs, found.loaded, standings, strict=True):
        if run.exists() and (one.may_be_on or _trained(run)):
            yield run, loaded.config
    names = {run.name for run in found.runs}
    for run, values in found.members():
        if run.name in names or not run.exists() or not _trained(run):
            continue
        point = GridPoint(run.name, tuple(values.items()))
        try:
            yield run, load(found.wish.config, [*found.wish.overrides, *point.overrides]).config
        except ConfigError:  # the config has no such point any more, so nothing is asked of it
            continue


def _trained(run: RunDir) -> bool:
    return run.progress() or run.finished()


def _changes(run: RunDir, config: Config) -> list[str]:
    """What a run would have to be made anew for; of one whose config cannot be read, as another version's, that is not known."""
    try:
        old = load(run.config).config
    except ConfigError:
        return []
    return differences(old, as_settled(old, config))
