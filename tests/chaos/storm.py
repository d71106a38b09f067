"""SIGKILL at any instant, also inside the write of a checkpoint: every run goes on, and ends with the same bits."""

from __future__ import annotations

import random
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.result import Result
from tests.chaos.workload import OPTIMIZERS, End, create, lost_checkpoint, make_config
from tests.support.attempts import Attempt, Server
from trainer.rundir import RunDir, read_jsonl

WORKERS = 3
POLL_S = 0.0003
MAX_FAILURES = 5

Half = tuple[str, int, int]


@dataclass
class _Tally:
    """The kills so far."""

    wanted: int
    kills: int = 0
    inside: int = 0
    """Of them, those that left half a checkpoint."""
    good: int = 0
    runs: int = 0
    failures: list[str] = field(default_factory=list)

    @property
    def inside_wanted(self) -> int:
        return -(-self.wanted // 4)

    @property
    def enough(self) -> bool:
        """A kill aimed at a write may miss it, so the last quarter may take more kills than were asked for; not without end."""
        return (self.kills >= self.wanted and self.inside >= self.inside_wanted) or self.kills >= 3 * self.wanted


def storm(seed: int, count: int = 200) -> Result:
    """So many SIGKILLs of three ranks; at least a quarter of them inside a checkpoint's write."""
    chosen, tally = random.Random(seed), _Tally(count)
    with tempfile.TemporaryDirectory(prefix="storm-") as name, Server() as server:
        folder = Path(name)
        references = {kind: _undisturbed(server, folder, kind) for kind in OPTIMIZERS}
        while not tally.enough and len(tally.failures) < MAX_FAILURES:
            tally.runs += 1
            kind = chosen.choice(list(OPTIMIZERS))
            _one_run(server, folder / f"run-{tally.runs}", kind, references[kind], chosen, tally)
    if tally.inside < tally.inside_wanted and not tally.failures:
        tally.failures.append(f"only {tally.inside} of {tally.kills} kills came inside a write: nothing was proved about writes")
    notes = f"{tally.kills} kills, {tally.inside} of them inside a checkpoint's write, in {tally.runs} runs"
    return Result("storm", count, min(count, tally.good), tally.failures, notes)


def _undisturbed(server: Server, folder: Path, kind: str) -> tuple[End, float]:
    """The end of the run that nobody touches, and how long it took."""
    run, began = create(folder / f"undisturbed-{kind}", make_config(kind)), time.monotonic()
    attempt = server.start(run.path, WORKERS)
    codes = attempt.wait()
    if codes != [0] * WORKERS:
        raise AssertionError(f"the undisturbed run ended with {codes}: {attempt.text()[-500:]}")
    return End.of(run), time.monotonic() - began


def _one_run(server: Server, path: Path, kind: str, reference: tuple[End, float], chosen: random.Random, tally: _Tally) -> None:
    """Kill and start again until the run is done."""
    run = create(path, make_config(kind))
    before, budget = tally.kills, chosen.randint(4, 16)
    while not run.finished():
        stale = _halves(run)
        attempt = server.start(path, WORKERS)
        spare = tally.enough or tally.kills - before >= budget
        struck = [] if spare else _strike(attempt, run, stale, reference[1], chosen)
        try:
            codes = attempt.wait()
        except TimeoutError as fault:
            tally.failures.append(f"{path.name} ({kind}), kill {tally.kills}: {fault}")
            return
        if struck and -9 in codes:  # one that was struck may have ended a moment before, and another one was not
            tally.kills += 1
            tally.inside += bool(_halves(run) - stale)  # what is there of it was never given its name
        elif codes != [0] * WORKERS:
            tally.failures.append(f"{path.name} ({kind}), after {tally.kills} kills: exit codes {codes}: {attempt.text().strip()[-300:]}")
            return
    fault = End.of(run).difference(reference[0]) or lost_checkpoint(list(read_jsonl(run.events)))
    if fault:
        tally.failures.append(f"{path.name} ({kind}), {tally.kills - before} kills: {fault}")
    else:
        tally.good += tally.kills - before


def _strike(attempt: Attempt, run: RunDir, stale: set[Half], whole_s: float, chosen: random.Random) -> list[int]:
    """Kill some ranks at some instant, and the others soon after, as the launcher does; who was meant. Empty: they had ended before."""
    # Half of the kills aim at a write: some miss it.
    if chosen.random() < 0.5:
        victims = [0]
        if not _wait_for_write(attempt, run, stale, chosen.randint(1, 3)):
            return []
        time.sleep(chosen.choice((0.0, chosen.uniform(0, 0.004))))
    else:
        victims = chosen.choice(([0], [chosen.randrange(WORKERS)], list(range(WORKERS))))
        until = time.monotonic() + chosen.uniform(0, 0.9 * whole_s)
        while time.monotonic() < until and attempt.running:
            time.sleep(POLL_S)
    alive = [rank for rank in victims if attempt.alive(rank)]
    attempt.kill(victims)
    time.sleep(chosen.choice((0.0, chosen.uniform(0, 0.1))))
    if alive:
        attempt.kill()
    return alive


def _wait_for_write(attempt: Attempt, run: RunDir, stale: set[Half], number: int) -> bool:
    """Wait until the attempt writes its n-th checkpoint from now on; False: it ended before."""
    count, was = 0, False
    while attempt.alive(0):
        now = bool(_halves(run) - stale)
        count += now and not was
        if count >= number:
            return True
        was = now
        time.sleep(POLL_S)
    return False


def _halves(run: RunDir) -> set[Half]:
    """The checkpoints that have no name yet. What an earlier kill left keeps its time until the next write removes it."""
    found = set()
    for path in run.checkpoints.glob(".partial-step-*"):
        with suppress(FileNotFoundError):
            status = path.stat()
            found.add((path.name, status.st_ino, status.st_mtime_ns))
    return found
