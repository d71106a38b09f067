"""``ostinato verify``: the same config on several numbers of workers and through kills, and whether the bits are the same."""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from launcher.compare import Difference, differences
from trainer.config.load import load
from trainer.config.schema import Config
from trainer.errors import DIFFERENT, DONE, ConfigError, OstinatoError
from trainer.rundir import RunDir, read_json, read_jsonl

POLL_S = 0.005
START_LIMIT_S = 300.0


@dataclass
class Trial:
    """One way to run the config, and what came of it."""

    name: str
    worlds: list[int]
    """Workers of each attempt; a kill lies between two attempts."""
    run: RunDir
    weights: str = ""
    """SHA-256 of the final weights."""
    killed: list[str] = field(default_factory=list)
    """Who was killed, and at which step."""


class TrialFailed(OstinatoError):
    """A trial ended badly; its exit code is ours."""

    def __init__(self, exit_code: int, text: str) -> None:
        super().__init__(text)
        self.exit_code = exit_code


def plan(config: Config, world_sizes: Sequence[int], kills: int, steps: int, cores: int) -> list[str]:
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
    threads = config.hardware.threads
    if threads == "auto":
        threads = max(1, cores // max(world_sizes))
    save = max(1, steps // 8)
    overrides = [f"train.virtual_ranks={ranks}", f"hardware.threads={threads}", f"train.max_steps={steps}"]
    overrides += [f"checkpoint.every_steps={save}", f"checkpoint.keep_every={save}", "log.every_steps=1", "log.fingerprint_every=1"]
    return [*overrides, "log.tensorboard=false"]


def trials(folder: Path, world_sizes: Sequence[int], kills: int, seed: int) -> list[Trial]:
    """One uninterrupted trial a world size, then one that is killed so many times, on changing numbers of workers. Pure."""
    found = [Trial(f"{size} worker{'s' if size > 1 else ''}", [size], RunDir(folder / f"w{size}")) for size in world_sizes]
    if kills:
        chosen = random.Random(seed)
        first = chosen.choice(world_sizes)
        worlds = [first]
        for _ in range(kills):
            others = [size for size in world_sizes if size != worlds[-1]] or list(world_sizes)
            worlds.append(chosen.choice(others))
        found.append(Trial(f"{kills} kill{'s' if kills > 1 else ''}", worlds, RunDir(folder / "killed")))
    return found


def carry_out(trial: Trial, config_path: str, overrides: Sequence[str], steps: int, seed: int) -> None:
    """Run one trial to its end.

    Raises:
        OstinatoError: an attempt that was not killed failed; the text is what it said.
    """
    chosen = random.Random(seed)
    attempts = len(trial.worlds)
    # One kill in each part of the run, so that every attempt makes progress, at a step that the seed chooses.
    edges = [round(steps * part / attempts) for part in range(attempts + 1)]
    for attempt, workers in enumerate(trial.worlds):
        process = _start(config_path, [*overrides, f"run.root={trial.run.path.parent}", f"run.name={trial.run.name}"], workers)
        if attempt < attempts - 1:
            at = chosen.randint(edges[attempt] + 1, max(edges[attempt] + 1, edges[attempt + 1] - 1))
            trial.killed.append(_kill_at(process, trial.run, at, workers, chosen))
        text = process.communicate()[0]
        if attempt == attempts - 1 and process.returncode != 0:
            raise TrialFailed(process.returncode, text.strip()[-2000:])
    trial.weights = next((str(row["weights"]) for row in read_jsonl(trial.run.events) if row["event"] == "finished"), "")


def _start(config_path: str, overrides: Sequence[str], workers: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "launcher", "train", config_path, *overrides, "--nproc-per-node", str(workers)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, stdin=subprocess.DEVNULL)


def _kill_at(process: subprocess.Popen[str], run: RunDir, step: int, workers: int, chosen: random.Random) -> str:
    """SIGKILL the launcher or one worker once the run's metrics have reached a step."""
    limit = time.monotonic() + START_LIMIT_S
    reached = 0
    while process.poll() is None and time.monotonic() < limit:
        reached = max((row["step"] for row in read_jsonl(run.metrics)), default=0)
        if reached >= step:
            break
        time.sleep(POLL_S)
    victims = ["the launcher", *(f"rank {rank}" for rank in range(workers))]
    victim = chosen.choice(victims)
    pid = process.pid if victim == "the launcher" else _pid_of(run, int(victim.split()[1]))
    if pid is not None and process.poll() is None:
        os.kill(pid, signal.SIGKILL)
    return f"{victim} at step {reached}"


def _pid_of(run: RunDir, rank: int) -> int | None:
    try:
        pid = int(read_json(run.heartbeat(rank))["pid"])
    except (OSError, ValueError, KeyError):
        return None
    return pid if psutil.pid_exists(pid) else None


def first_difference(trials: Sequence[Trial]) -> tuple[Trial, Trial, list[Difference], str | None] | None:
    """The first pair that differs, in what, and the first checkpoint's tensor that shows it; None: all are identical."""
    one = trials[0]
    for two in trials[1:]:
        if one.weights != two.weights:
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
    settled = [*overrides, *plan(config, sizes, kills, steps, len(os.sched_getaffinity(0)))]
    root = Path(config.run.root)
    root.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{config.run.name}.verify-", dir=root))
    found = trials(folder, sizes, kills, seed)
    try:
        for trial in found:
            if not as_json:
                print(f"{trial.name} …", file=sys.stderr, flush=True)
            carry_out(trial, config_path, settled, steps, seed)
    except OstinatoError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    parted = first_difference(found)
    if as_json:
        print(json.dumps({"identical": parted is None, "trials": [_as_json(trial) for trial in found]}, indent=2))
    else:
        _print_table(found)
        print("\n".join(_verdict(parted, folder)))
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
    return {"trial": trial.name, "workers": trial.worlds, "killed": trial.killed, "weights": trial.weights}


def _print_table(found: Sequence[Trial]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("trial", "workers", "killed", "SHA-256 of the weights", box=None, pad_edge=False)
    for trial in found:
        table.add_row(trial.name, " → ".join(map(str, trial.worlds)), ", ".join(trial.killed), trial.weights)
    # Piped, a table must not be folded to 80 columns: a hash in two halves cannot be compared.
    console = Console()
    (console if console.is_terminal else Console(width=200)).print(table)


def _verdict(parted: tuple[Trial, Trial, list[Difference], str | None] | None, folder: Path) -> list[str]:
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
    return [*lines, f"  the runs are kept in {folder}"]
