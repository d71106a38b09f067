"""Requests to stop, to any process of a job, at any moment: the job ends with 0 or 75, and loses at most one step."""

from __future__ import annotations

import random
import signal
import tempfile
from collections import Counter
from pathlib import Path

import psutil

from tests.chaos.kills import GONE_AFTER_S, HANG_S, Reference, command, go_on_to_the_end, undisturbed
from tests.chaos.moments import MOMENTS, wait_for
from tests.chaos.result import Result
from tests.chaos.workload import newest_step, slow_config, write_config
from tests.support.family import Family, crowding
from trainer.checkpoint import store
from trainer.errors import DONE, STOPPED
from trainer.rundir import RunDir, read_jsonl

NUMBERS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
SIGNALS_A_RUN = 4


def signals(seed: int, count: int = 60) -> Result:
    """So many signals that reached somebody; every other one goes to a worker or the launcher, the rest to whoever lives."""
    chosen, good, failures, number, runs = random.Random(seed), 0, [], 0, 0
    codes: Counter[int] = Counter()
    reached: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="signals-") as name:
        folder = Path(name)
        write_config(folder / "undisturbed", slow_config())
        reference = undisturbed(folder / "undisturbed", "c.yaml")
        while number < count and runs < count:
            runs += 1
            here = folder / f"run-{runs}"
            config, done = write_config(here, slow_config(1 if runs % 3 == 2 else 0)), 0
            for _ in range(min(SIGNALS_A_RUN, count - number)):
                code, role, fault = _one_signal(here, config, reference, chosen)
                if fault is not None:
                    number += 1
                    failures.append(f"signal {number}: {fault}")
                elif role:  # what reached nobody proves nothing
                    number += 1
                    codes[code] += 1
                    reached[role] += 1
                    done += 1
                if code == DONE:
                    break
            fault = go_on_to_the_end(here, config, reference)
            if fault is None:
                good += done
            else:
                failures.append(f"after signal {number}: {fault}")
    if number < count:
        failures.append(f"only {number} signals reached anybody")
    to = ", ".join(f"{times} to a {role}" for role, times in sorted(reached.items()))
    return Result("signals", count, good, failures, f"{codes[STOPPED]} ended with 75, {codes[DONE]} with 0, in {runs} runs; {to}")


def _one_signal(folder: Path, config: str, reference: Reference, chosen: random.Random) -> tuple[int, str, str | None]:
    """Start, signal, wait; the exit code, whom it reached (empty: nobody), and what is wrong."""
    run, family = RunDir(folder / "runs" / "c"), Family(folder, *command(config))
    known = sum(1 for _ in read_jsonl(run.events))
    moment, label, role = chosen.choice(list(MOMENTS)), "no signal", ""
    try:
        if wait_for(moment, family, run, reference.start_s, chosen):
            role, label = _send(family, moment, chosen)
        before = newest_step(run)
        code, out, err = family.end(HANG_S * crowding())
        if code is None:
            return -1, role, f"{label}: hangs"
        if code not in (DONE, STOPPED):
            return code, role, f"{label}: ended with {code}: {(out + err)[-300:]}"
        lost = _lost_steps(run, code, before, known)
        if lost > 1:
            return code, role, f"{label}: {lost} steps were lost (exit code {code})"
        left = family.left_after(GONE_AFTER_S)
        return code, role, f"{label}: still there {GONE_AFTER_S:.0f} s later: {'; '.join(left)}" if left else None
    finally:
        family.kill()
        family.launcher.communicate()


def _send(family: Family, moment: str, chosen: random.Random) -> tuple[str, str]:
    """One signal to one process; whom it reached (empty: nobody), and who, what and when in words."""
    roles = family.roles()
    if chosen.random() < 0.5:
        roles = {role: found for role, found in roles.items() if role in ("launcher", "worker")} or roles
    number, role = chosen.choice(NUMBERS), chosen.choice(sorted(roles) or ["launcher"])
    try:
        chosen.choice(roles[role]).send_signal(number)
    except (psutil.Error, KeyError):
        return "", f"no {number.name}, as the {role} had ended at {moment}"
    return role, f"{number.name} to the {role} at {moment}"


def _lost_steps(run: RunDir, code: int, before: int, known: int) -> int:
    """Steps that were done and will be done again: after the stop, or in a start that the job made by itself."""
    last = store.pointed(run.checkpoints, "last")
    lost = newest_step(run) - (store.step_of(last) if last else 0) if code == STOPPED else 0
    starts = [row for row in list(read_jsonl(run.events))[known:] if row["event"] in ("started", "resumed")]
    for row in starts[1:]:
        lost = max(lost, before - (store.step_of(row["checkpoint"]) if row["checkpoint"] else 0))
    return lost
