"""One trial of ``ostinato verify``: a run of the config, from its start to its end, through kills where it is to have some."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import psutil

from trainer.errors import DIFFERENT, DONE, LOST, TRAINING_FAILED, ConfigError, OstinatoError
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
    state: str = ""
    """SHA-256 of the weights, the optimizer's state and the averaged weights in the last checkpoint."""
    killed: list[str] = field(default_factory=list)
    """Who was killed, and at which step."""


class TrialFailed(OstinatoError):
    """A trial ended badly; its exit code is ours."""

    def __init__(self, exit_code: int, text: str) -> None:
        super().__init__(text)
        # Neither done nor different: the question was not answered. An exit code of no meaning is the system's.
        self.exit_code = LOST if exit_code < 0 else TRAINING_FAILED if exit_code in (DONE, DIFFERENT) else exit_code


def trials(folder: Path, world_sizes: Sequence[int], kills: int, seed: int) -> list[Trial]:
    """One uninterrupted trial a world size, then one that is killed so many times, on changing numbers of workers. Pure."""
    found = [Trial(f"{size} worker{'s' if size > 1 else ''}", [size], RunDir(folder / f"w{size}")) for size in world_sizes]
    if kills:
        chosen = random.Random(seed)
        worlds = [chosen.choice(world_sizes)]
        for _ in range(kills):
            others = [size for size in world_sizes if size != worlds[-1]] or list(world_sizes)
            worlds.append(chosen.choice(others))
        found.append(Trial(f"{kills} kill{'s' if kills > 1 else ''}", worlds, RunDir(folder / "killed")))
    return found


def kill_steps(steps: int, kills: int, seed: int) -> list[int]:
    """After which step each kill comes: one in each part of the run but the last, in its first half, as a kill can come late. Pure.

    Raises:
        ConfigError: there are too few steps for one in each attempt.
    """
    if steps <= kills:
        raise ConfigError(f"command line: --kills={kills}: a run of {steps} steps has room for {steps - 1} at most")
    chosen = random.Random(seed)
    edges = [round(steps * part / (kills + 1)) for part in range(kills + 2)]
    return [chosen.randint(low + 1, max(low + 1, (low + high) // 2)) for low, high in pairwise(edges[:-1])]


def steps_of(run: RunDir) -> int:
    """The steps of a finished run, as its last event says; 0: it has not finished."""
    return max((int(row["step"]) for row in read_jsonl(run.events) if row.get("event") == "finished"), default=0)


def carry_out(trial: Trial, config_path: str, overrides: Sequence[str], kills: Sequence[int], seed: int) -> None:
    """Run one trial to its end.

    Args:
        trial: the trial; what came of it is written there.
        config_path: the config.
        overrides: the same for all trials.
        kills: after which step each attempt but the last is killed.
        seed: chooses who is killed.

    Raises:
        OstinatoError: an attempt failed that was not killed, or ended before it could be; the text is what it said.
    """
    chosen = random.Random(seed)
    for part, workers in enumerate(trial.worlds):
        attempt = trial.run.next_attempt()
        said = trial.run.path.with_name(f"{trial.run.name}-{part}.txt")
        ours = (f"run.root={trial.run.path.parent}", f"run.name={trial.run.name}", "supervision.max_restarts=0")
        process = _start(config_path, [*overrides, *ours], workers, said)
        try:
            victim = None
            if part < len(trial.worlds) - 1:
                victim = _kill(process, trial.run, attempt, kills[part], workers, chosen)
            code = process.wait()
        finally:
            process.kill()  # does nothing to one that has ended
            process.wait()
        text = said.read_text(encoding="utf-8", errors="replace").strip()[-2000:]
        if part == len(trial.worlds) - 1:
            if code != DONE:
                raise TrialFailed(code, text or f"{trial.name}: ended with exit code {code} and said nothing")
        elif victim is None or not (code < 0 or code == LOST):
            raise TrialFailed(code, _unharmed(trial.name, kills[part], victim, code, text))
        else:
            trial.killed.append(victim)
    trial.weights = next((str(row["weights"]) for row in read_jsonl(trial.run.events) if row.get("event") == "finished"), "")


def _unharmed(name: str, step: int, victim: str | None, code: int, text: str) -> str:
    """What to say of an attempt that was to be killed and ended in another way."""
    if code in (DONE, LOST) or code < 0:
        how = f"{victim} was killed" if victim else f"it was to be killed at step {step}"
        return f"{name}: {how}, and the attempt ended with exit code {code} of its own before that; give it more --steps, or fewer --kills"
    return text or f"{name}: ended by itself with exit code {code} and said nothing"


def _start(config_path: str, overrides: Sequence[str], workers: int, said: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "launcher", "train", config_path, *overrides, "--nproc-per-node", str(workers)]
    with open(said, "wb") as file:  # not a pipe: nobody reads while we wait for a step
        return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)


def _kill(process: subprocess.Popen[bytes], run: RunDir, attempt: int, step: int, workers: int, chosen: random.Random) -> str | None:
    """SIGKILL the launcher or one worker once this attempt has reached a step; who and when, or None: there was nobody left to kill."""
    limit = time.monotonic() + START_LIMIT_S
    while process.poll() is None:
        if time.monotonic() > limit:
            raise TrialFailed(TRAINING_FAILED, f"step {step} was not reached in {START_LIMIT_S:.0f} s")
        reached = max((int(row["step"]) for row in read_jsonl(run.metrics) if row["attempt"] == attempt), default=0)
        if reached >= step:
            victim = chosen.choice(["the launcher", *(f"rank {rank}" for rank in range(workers))])
            return f"{victim} at step {reached}" if _killed(process, run, attempt, victim) else None
        time.sleep(POLL_S)
    return None


def _killed(process: subprocess.Popen[bytes], run: RunDir, attempt: int, victim: str) -> bool:
    """Send the signal; whether there was a live process of this attempt to send it to."""
    with suppress(OSError, ValueError, KeyError, StopIteration, psutil.Error):
        if process.poll() is not None:
            return False
        launcher = psutil.Process(process.pid)
        if victim == "the launcher":
            launcher.send_signal(signal.SIGKILL)
            return True
        beat = read_json(run.heartbeat(int(victim.split()[1])))
        # A heartbeat outlives its worker, and a process id can be somebody else's by now.
        worker = next(child for child in launcher.children(recursive=True) if child.pid == beat["pid"])
        if beat["attempt"] == attempt:
            worker.send_signal(signal.SIGKILL)
            return True
    return False
