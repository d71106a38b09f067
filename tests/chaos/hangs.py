"""Jobs that hang, in four ways: reported in time with the right rank and line, started again, the same bits at the end."""

from __future__ import annotations

import random
import re
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import psutil

from tests.chaos.result import Result
from tests.support import jobs
from trainer.rundir import RunDir, read_jsonl

LIMIT_S = 8.0  # longer than a busy disk takes for an fsync
LATE_S = 8.0  # until the report is there: the stacks are written first, on a busy machine
SUPPORT = jobs.ROOT / "tests" / "support"
CONFIG = """
model: {{target: "tests.support.hanging:{model}", control: {control}, rank: {rank}, call: {call}}}
data:
  train: {{target: "tests.support.hanging:{images}"{data}}}
  batch_size: 24
  loader_workers: {loader_workers}
optimizer: {{target: sgd, lr: 0.05, momentum: 0.9}}
train: {{epochs: 3, virtual_ranks: 3}}
checkpoint: {{every_steps: 4}}
supervision: {{stuck_after_s: {limit}}}
log: {{every_steps: 1, tensorboard: false}}
hardware: {{device: cpu, threads: 1}}
"""
WAYS = ("loop", "collective", "loader", "sigstop")


def hangs(seed: int, count: int = 20) -> Result:
    """So many hangs, each way in turn."""
    chosen = random.Random(seed)
    result = Result("hangs", wanted=count, good=0, failures=[])
    late = []
    for number in range(count):
        way, rank = WAYS[number % len(WAYS)], chosen.randrange(3)
        with tempfile.TemporaryDirectory() as folder:
            fault, delay = one(Path(folder), way, rank, chosen.randint(4, 16))
        late.append(delay)
        if fault:
            result.failures.append(f"hang {number} ({way}, rank {rank}): {fault}")
        else:
            result.good += 1
    result.notes = f"reported {min(late):.1f} to {max(late):.1f} s after the hang, limit {LIMIT_S:g} s"
    return result


def one(folder: Path, way: str, rank: int, call: int) -> tuple[str, float]:
    """One hang: what is wrong (empty: nothing), and the seconds from the hang to the report."""
    control = folder / "control"
    reads = 8 * call
    data = f", control: {control}, rank: {rank}, reads: {reads}" if way == "loader" else f", control: {folder}/never"
    text = CONFIG.format(
        model="Skipping" if way == "collective" else "Looping",
        control=f"{folder}/never" if way == "loader" else control,
        rank=rank,
        call=call,
        images="StuckImages",
        data=data,
        loader_workers=1 if way == "loader" else 0,
        limit=LIMIT_S,
    )
    (folder / "hang.yaml").write_text(text)
    command = ("train", "hang.yaml", "--nproc-per-node", "3")
    reference = jobs.ostinato(folder, *command, "run.name=reference")
    if reference.returncode != 0:
        return f"the reference failed: {reference.stderr}", 0.0
    run = RunDir(folder / "runs" / "hang")
    if way == "sigstop":
        process = jobs.start(folder, *command, jobs.slow_images(free=8 * (call + 3)))  # eight images a step
        jobs.wait_for_step(run, call, process)
        psutil.Process(jobs.pid_of(run, rank)).send_signal(signal.SIGSTOP)
        began = time.time()
        jobs.hurry(folder)
    else:
        control.touch()
        process = jobs.start(folder, *command)
        began = gone_at(control, process)
    out, err = process.communicate(timeout=120)
    restarts = jobs.events(run, "restarted")
    if process.returncode != 0 or len(restarts) != 1:
        return f"exit code {process.returncode}, {len(restarts)} restarts: {out}{err}", 0.0
    delay = restarts[0]["time"] - began
    return wrong(way, rank, delay, err) or differs(run, RunDir(folder / "runs" / "reference")), delay


def gone_at(control: Path, process: subprocess.Popen[str]) -> float:
    """When the file was taken."""
    limit = time.monotonic() + 60
    while control.exists() and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.005)
    return time.time()


def wrong(way: str, rank: int, delay: float, err: str) -> str:
    """What is wrong with the report; empty: nothing."""
    found = re.search(r"^rank (\d+) is (stuck|halted)", err, flags=re.MULTILINE)
    hanging = r"hanging\.py:\d+"
    lines = {"loop": hanging, "loader": hanging, "collective": r"step\.py:\d+", "sigstop": r"after step \d+, at .+\.py:\d+"}
    if found is None or int(found[1]) != rank:
        return f"the wrong rank is named: {err}"
    sentence = err[found.start() :].splitlines()[0]
    if not re.search(lines[way], sentence):
        return f"the wrong line is named: {sentence}"
    if len(err.splitlines()) > 15:
        return f"{len(err.splitlines())} lines"
    if delay > LIMIT_S + LATE_S:
        return f"reported after {delay:.1f} s"
    return ""


def differs(run: RunDir, reference: RunDir) -> str:
    """How the two runs part; empty: they do not."""
    if jobs.weights(run) != jobs.weights(reference):
        return "other weights"
    steps = [row["step"] for row in read_jsonl(run.metrics) if row["split"] == "train"]
    return "" if jobs.rows(run) == jobs.rows(reference) else f"other rows: steps {steps}"
