"""Runs that nobody disturbs end with 0 and without a false alarm; and the control: without the tree a resume changes the bits."""

from __future__ import annotations

import random
import re
import tempfile
from pathlib import Path

from tests.chaos.kills import GONE_AFTER_S, HANG_S, command
from tests.chaos.result import Result
from tests.chaos.workload import OPTIMIZERS, End, create, make_config, slow_config, write_config
from tests.support.attempts import Server
from tests.support.exact import go_on, plain_all_reduce
from tests.support.family import Family, crowding
from tests.support.ranks import run_ranks
from trainer.rundir import RunDir, read_jsonl

WORKERS = 3
ALARM = re.compile(r"stuck|restart|no progress|lost to|killed|warn|Traceback", re.IGNORECASE)
CALM = {"created", "started", "checkpointed", "finished"}
END = 10**9


def healthy(seed: int, count: int = 100) -> Result:
    """So many runs on three workers, every tenth more through the command line: exit code 0, one end, no alarm."""
    chosen, good, failures, through = random.Random(seed), 0, [], -(-count // 10)
    with tempfile.TemporaryDirectory(prefix="healthy-") as name, Server() as server:
        folder, ends = Path(name), {}
        for number in range(1, count + 1):
            kind = chosen.choice(list(OPTIMIZERS))
            run = create(folder / f"run-{number}", make_config(kind, train={"epochs": 2}))
            attempt = server.start(run.path, WORKERS)
            codes = attempt.wait()
            fault = None if codes == [0] * WORKERS else f"exit codes {codes}: {attempt.text().strip()[-300:]}"
            fault = fault or _alarm(run, attempt.text()) or End.of(run).difference(ends.setdefault(kind, End.of(run)))
            good += fault is None
            if fault is not None:
                failures.append(f"run {number} ({kind}): {fault}")
        for number in range(1, through + 1):
            fault = _through_the_command_line(folder / f"command-{number}")
            good += fault is None
            if fault is not None:
                failures.append(f"run {number} of the command line: {fault}")
    return Result("healthy", count + through, good, failures, f"{through} of them through the command line")


def _alarm(run: RunDir, said: str) -> str | None:
    """A line or an event that has no place in a healthy run."""
    found = [line for line in said.splitlines() if ALARM.search(line)]
    found += [str(row) for row in read_jsonl(run.events) if row["event"] not in CALM]
    return f"a false alarm: {found[0]}" if found else None


def _through_the_command_line(folder: Path) -> str | None:
    family = Family(folder, *command(write_config(folder, slow_config(train={"epochs": 2}))))
    code, out, err = family.end(HANG_S * crowding())
    left = family.left_after(GONE_AFTER_S)
    family.kill()
    if code != 0 or err:
        return f"ended with {code}: {(out + err)[-300:]}"
    return f"still there after the end: {'; '.join(left)}" if left else _alarm(RunDir(folder / "runs" / "c"), out + err)


def no_tree(seed: int, count: int = 2) -> Result:
    """The control: with DDP's own all-reduce, a run of three workers that is resumed must end with other bits."""
    chosen, good, failures = random.Random(seed), 0, []
    with tempfile.TemporaryDirectory(prefix="no-tree-") as name:
        for number in range(1, count + 1):
            kind = chosen.choice(list(OPTIMIZERS))
            stops = sorted(chosen.sample(range(2, 19), 2))
            config = make_config(kind, train={"epochs": 2})
            for sabotage, must_differ in ((plain_all_reduce, True), (None, False)):
                ends = []
                for label, parts in (("whole", [END]), ("broken", [*stops, END])):
                    path = f"{name}/{number}-{must_differ}-{label}"
                    for stop in parts:
                        result = run_ranks(go_on, WORKERS, config, path, stop, sabotage)[0]
                    ends.append(result.weights)
                if (ends[0] != ends[1]) is not must_differ:
                    what = "the same bits without the tree" if must_differ else "other bits with the tree"
                    failures.append(f"{kind}, stopped after steps {stops}: {what}")
                    break
            else:
                good += 1
    return Result("no_tree", count, good, failures, "without the tree a resume changes the bits")
