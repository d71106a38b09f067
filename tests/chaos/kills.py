"""SIGKILL of a worker or of the launcher, through the real command line: nothing is left behind, and the next start goes on."""

from __future__ import annotations

import random
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.chaos.moments import MOMENTS, wait_for
from tests.chaos.result import Result
from tests.chaos.workload import End, lost_checkpoint, newest_step, slow_config, write_config
from tests.support.family import Family, crowding
from trainer.config.schema import Config
from trainer.errors import LOST
from trainer.rundir import RunDir, read_jsonl

GONE_AFTER_S = 10.0
HANG_S = 90.0
KILLS_A_RUN = 4


@dataclass
class Reference:
    """The run that nobody touches."""

    end: End
    start_s: float
    """From the command to the first step."""


def command(config: str) -> tuple[str, ...]:
    """A start on three workers."""
    return ("train", config, "--nproc-per-node", "3")


def undisturbed(folder: Path, config: str) -> Reference:
    """Run it to its end.

    Raises:
        AssertionError: it fails by itself.
    """
    run, began = RunDir(folder / "runs" / "c"), time.monotonic()
    family = Family(folder, *command(config))
    while family.launcher.poll() is None and newest_step(run) == 0:
        time.sleep(0.01)
    start_s = time.monotonic() - began
    code, out, err = family.end(HANG_S * crowding())
    assert code == 0, f"the undisturbed run ended with {code}: {(out + err)[-500:]}"
    return Reference(End.of(run), start_s)


def kills(seed: int, count: int = 30) -> Result:
    """So many SIGKILLs: of a worker, and every third of the launcher; at any moment, some with loader workers."""
    chosen, good, failures, number, runs = random.Random(seed), 0, [], 0, 0
    with tempfile.TemporaryDirectory(prefix="kills-") as name:
        folder = Path(name)
        write_config(folder / "undisturbed", _config(0))
        reference = undisturbed(folder / "undisturbed", "c.yaml")
        killed: Counter[str] = Counter()
        while number < count and runs < count:
            runs += 1
            here = folder / f"run-{runs}"
            config = write_config(here, _config(1 if runs % 3 == 1 else 0))
            done = 0
            for _ in range(min(KILLS_A_RUN, count - number)):
                who = "launcher" if number % 3 == 2 else "worker"
                hit, fault = _one_kill(here, config, who, reference, chosen)
                if fault is not None:
                    number += 1
                    failures.append(f"kill {number}: {fault}")
                elif hit:  # what hit nobody proves nothing
                    number += 1
                    done += 1
                    killed[who] += 1
            fault = go_on_to_the_end(here, config, reference)
            if fault is None:
                good += done
            else:
                failures.append(f"after kill {number}: {fault}")
        if number < count:
            failures.append(f"only {number} kills hit anybody")
    return Result("kills", count, good, failures, f"{killed['worker']} of a worker, {killed['launcher']} of the launcher, in {runs} runs")


def _config(loader_workers: int) -> Config:
    # With restarts the run would go on by itself.
    return slow_config(loader_workers, supervision={"max_restarts": 0})


def _one_kill(folder: Path, config: str, who: str, reference: Reference, chosen: random.Random) -> tuple[bool, str | None]:
    """Start, kill, look who is left; whether somebody was hit, and what is wrong, or None."""
    run, family = RunDir(folder / "runs" / "c"), Family(folder, *command(config))
    moment = chosen.choice([name for name in MOMENTS if name != "the end"])
    label = f"the {who} at {moment}"
    try:
        if not wait_for(moment, family, run, reference.start_s, chosen):
            code, out, err = family.end(HANG_S)
            return False, None if code == 0 else f"{label}: ended with {code} before that: {(out + err)[-300:]}"
        ports = family.open_ports()
        if ports:
            return True, f"{label}: listens on {', '.join(ports)}"
        victim = _victim(family, who, chosen)
        if victim is None:
            return False, None
        victim.kill()
        if victim.pid != family.launcher.pid:
            code, _, err = family.end(HANG_S * crowding())
            if code not in (LOST, 0):  # 0: it had done its part
                return True, f"{label}: ended with {code}, not {LOST}: {err[-300:]}"
        left = family.left_after(GONE_AFTER_S)
        return True, f"{label}: still there {GONE_AFTER_S:.0f} s later: {'; '.join(left)}" if left else None
    except psutil.NoSuchProcess:
        return False, None  # it ended in this instant
    finally:
        family.kill()
        family.launcher.communicate()


def _victim(family: Family, who: str, chosen: random.Random) -> psutil.Process | None:
    """A worker or the launcher; None: there is no worker yet."""
    if who == "launcher":
        return psutil.Process(family.launcher.pid)
    workers = family.roles().get("worker", [])
    return chosen.choice(workers) if workers else None


def go_on_to_the_end(folder: Path, config: str, reference: Reference) -> str | None:
    """The same command once more; what is wrong with the end, or None."""
    run, family = RunDir(folder / "runs" / "c"), Family(folder, *command(config))
    code, out, err = family.end(HANG_S * crowding())
    left = family.left_after(GONE_AFTER_S)
    family.kill()
    if code != 0:
        return f"the next start ended with {code}: {(out + err)[-300:]}"
    if left:
        return f"still there after the end: {'; '.join(left)}"
    return End.of(run).difference(reference.end) or lost_checkpoint(list(read_jsonl(run.events)))
