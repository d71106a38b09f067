"""``ostinato verify``: the same config on several numbers of workers and through kills, and whether the bits are the same."""

from __future__ import annotations

import json
import math
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from launcher.compare import Difference, differences, first_step
from launcher.trials import Trial, TrialFailed, carry_out, kill_steps, steps_of, trials
from trainer.config.load import load
from trainer.config.schema import Config
from trainer.errors import DIFFERENT, DONE, ConfigError, OstinatoError


def plan(config: Config, world_sizes: Sequence[int], steps: int) -> list[str]:
    """The overrides with which every trial runs: one arithmetic for all of them, and rows for every step. Pure.

    Raises:
        ConfigError: a world size does not divide the config's number of virtual ranks.
    """
    if not world_sizes or min(world_sizes) < 1:
        raise ConfigError("--world-sizes takes whole numbers from 1, such as 1,2,4")
    ranks = config.train.virtual_ranks
    if ranks == "auto":
        ranks = math.lcm(*world_sizes)
    unfit = [str(size) for size in world_sizes if ranks % size]
    if unfit:
        raise ConfigError(f"--world-sizes: {', '.join(unfit)} workers cannot share {ranks} virtual ranks evenly")
    # Threads need no word: where they are auto they follow the virtual ranks.
    overrides = [f"train.virtual_ranks={ranks}", f"train.max_steps={steps}", *saving(steps)]
    return [*overrides, "log.every_steps=1", "log.fingerprint_every=1", "log.tensorboard=false", "log.wandb=null"]


def saving(steps: int) -> list[str]:
    """The overrides that make a run of so many steps save eight times, and keep what it saves."""
    every = max(1, steps // 8)
    return [f"checkpoint.every_steps={every}", f"checkpoint.keep_every={every}"]


def run_all(found: Sequence[Trial], config_path: str, overrides: Sequence[str], *, kills: int, seed: int, quiet: bool) -> None:
    """Run the trials one after the other. The first one shows how many steps the run really has.

    Raises:
        OstinatoError: a trial could not be run to its end.
    """
    from trainer.checkpoint.compare import state_digest

    steps = 0
    for trial in found:
        if not quiet:
            print(f"{trial.name} …", file=sys.stderr, flush=True)
        killed = kill_steps(steps, kills, seed) if len(trial.worlds) > 1 else []
        carry_out(trial, config_path, overrides, killed, seed)
        trial.state = state_digest(trial.run.checkpoints)
        if not steps:
            steps = steps_of(trial.run)
            overrides = [*overrides, *saving(steps)]


def first_difference(trials: Sequence[Trial]) -> tuple[Trial, Trial, list[Difference], str | None] | None:
    """The first trial that differs from the first one, in what, and the first tensor that shows it; None: all are identical."""
    one = trials[0]
    for two in trials[1:]:
        if (one.state, one.weights) != (two.state, two.weights) or first_step(one.run, two.run) is not None:
            from trainer.checkpoint.compare import first_tensor

            return one, two, differences(one.run, two.run), first_tensor(one.run.checkpoints, two.run.checkpoints)
    return None


def verify(config_path: str, overrides: Sequence[str], *, world_sizes: str, kills: int, steps: int, seed: int, as_json: bool) -> int:
    """``ostinato verify``: run all trials, print the table, say *identical* or where they part; the exit code.

    Raises:
        OstinatoError: the config or an option is wrong, or a trial could not be run.
    """
    config = load(config_path, overrides).config
    sizes = _sizes(world_sizes)
    # What the trials need stands after the user's own overrides, so it has the last word.
    settled = [*overrides, *plan(config, sizes, steps)]
    kill_steps(steps, kills, seed)  # refuses too many before anything runs
    root = Path(config.run.root)
    root.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{config.run.name}.verify-", dir=root))
    found = trials(folder, sizes, kills, seed)
    try:
        run_all(found, config_path, settled, kills=kills, seed=seed, quiet=as_json)
    except OstinatoError as fault:
        if not (isinstance(fault, TrialFailed) and any(trial.run.exists() for trial in found)):  # its log says more
            shutil.rmtree(folder, ignore_errors=True)
        raise
    parted = first_difference(found)
    lines = _verdict(parted)
    if as_json:
        kept = None if parted is None else str(folder)
        answer = {"identical": parted is None, "verdict": lines, "folder": kept, "trials": [_as_json(trial) for trial in found]}
        print(json.dumps(answer, indent=2))
    else:
        _print_table(found)
        print("\n".join(lines if parted is None else [*lines, f"  the runs are kept in {folder}"]))
    if parted is None:
        shutil.rmtree(folder, ignore_errors=True)
        return DONE
    return DIFFERENT


def _sizes(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"--world-sizes: {text!r} is no list of whole numbers such as 1,2,4") from None


def _as_json(trial: Trial) -> dict[str, object]:
    return {"trial": trial.name, "workers": trial.worlds, "killed": trial.killed, "weights": trial.weights, "state": trial.state}


def _print_table(found: Sequence[Trial]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("trial", "workers", "killed", "SHA-256 of weights and optimizer", box=None, pad_edge=False)
    for trial in found:
        table.add_row(trial.name, " → ".join(map(str, trial.worlds)), ", ".join(trial.killed), trial.state)
    # Piped, a table must not be folded to 80 columns: a hash in two halves cannot be compared.
    console = Console()
    (console if console.is_terminal else Console(width=200)).print(table)


def _verdict(parted: tuple[Trial, Trial, list[Difference], str | None] | None) -> list[str]:
    if parted is None:
        return ["identical"]
    one, two, found, tensor = parted
    lines = [f"different: {one.name} and {two.name}"]
    lines += [f"  first in {seen.what}: {seen.first} | {seen.second}" for seen in found if seen.kind == "step"]
    lines += [f"  first tensor: {tensor}"] if tensor else []
    causes = [str(difference) for difference in found if difference.kind != "step" and not difference.expected]
    lines += [f"  likely cause: {cause}" for cause in causes[:5]]
    if not causes:
        lines.append("  the recorded environments agree; look for randomness or state that does not depend on the position alone,")
        lines.append("  such as a generator of the data set's own, a layer that looks across workers, or a counter in the model")
    return lines
