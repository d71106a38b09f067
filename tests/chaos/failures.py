"""Failures of every kind through the real command line: the first cause, its exit code, in few lines."""

from __future__ import annotations

import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.result import Result
from tests.support import jobs
from tests.support.damage_run import cut_checkpoints

MAX_LINES = 15
CONFIG = """
model: {{target: "{model}"{model_arguments}}}
data:
  train: {{target: "{images}"{images_arguments}}}
  batch_size: 24
  loader_workers: {loader_workers}
optimizer: {{target: sgd, lr: 0.1}}
train: {{epochs: 2, virtual_ranks: 3}}
checkpoint: {{every_steps: 3}}
supervision: {{max_restarts: 0, stuck_after_s: 4}}
hardware: {{device: cpu, threads: 1}}
log: {{tensorboard: false}}
"""
NET, IMAGES = "tests.support.faulty:FaultyNet", "tests.support.faulty:FaultyImages"


ONE_NODE = """
import os
if os.environ.get("RANK") == "1":
    raise RuntimeError("no driver on this node")
from tests.support.noisy import NoisyNet as Net
"""


@dataclass(frozen=True)
class Cause:
    """One failure, and what must be said of it."""

    name: str
    exit_code: int
    says: str
    """A pattern that the first three lines must match."""
    model: str = NET
    model_arguments: str = ""
    images: str = IMAGES
    images_arguments: str = ""
    loader_workers: int = 0
    disk: str = ""
    """Make the run's root a tmpfs of this size."""
    before: Callable[[Path], None] | None = None
    """Done to the folder first."""
    modules: dict[str, str] = field(default_factory=dict)
    """The user's own modules, by name."""


def in_model(fault: str, rank: int) -> str:
    """The model's arguments."""
    return f", fault: {fault}, rank: {rank}"


def causes(chosen: random.Random) -> list[Cause]:
    """All of them, on ranks chosen by chance."""
    r = [chosen.randrange(3) for _ in range(20)]
    broken = {"broken_module": "import nonexistent_library\nclass Net: pass\n"}
    one_node = {"one_node": ONE_NODE}
    return [
        Cause(
            "exception in a model",
            4,
            rf"rank {r[0]}: ValueError: the seventh layer does not fit \(.*faulty\.py:\d+, in exception\)",
            model_arguments=in_model("exception", r[0]),
        ),
        Cause(
            "shapes that do not fit", 4, rf"rank {r[1]}: RuntimeError: mat1 and mat2.*faulty\.py", model_arguments=in_model("shape", r[1])
        ),
        Cause(
            "MemoryError", 4, rf"rank {r[2]}: MemoryError: no room for the attention matrix", model_arguments=in_model("memory-error", r[2])
        ),
        Cause("endless recursion", 4, rf"rank {r[3]}: RecursionError", model_arguments=in_model("recursion", r[3])),
        Cause(
            "exit() in a model", 4, rf"rank {r[4]}: the program was left by exit\(0\).*faulty\.py", model_arguments=in_model("exit", r[4])
        ),
        Cause("os._exit in a model", 4, rf"rank {r[5]} ended with exit code 7", model_arguments=in_model("silent-exit", r[5])),
        Cause("segfault", 5, rf"rank {r[6]} was killed by SIGSEGV", model_arguments=in_model("segfault", r[6])),
        Cause("abort", 5, rf"rank {r[7]} was killed by SIGABRT", model_arguments=in_model("abort", r[7])),
        Cause("bus error", 5, rf"rank {r[8]} was killed by SIGBUS", model_arguments=in_model("bus-error", r[8])),
        Cause("SIGKILL from outside", 5, rf"rank {r[9]} was killed by SIGKILL", model_arguments=in_model("kill", r[9])),
        Cause(
            "endless loop",
            6,
            rf"stuck: (.|\n)*rank {r[10]} is stuck: in forward, after step 2, at .*faulty\.py",
            model_arguments=in_model("loop", r[10]),
        ),
        Cause("a sample that cannot be read", 4, r"sample 33 .*ValueError: the seventh layer", images_arguments=", fault: exception"),
        Cause(
            "the same in a loader worker",
            4,
            r"sample 33 .*ValueError: the seventh layer",
            images_arguments=", fault: exception",
            loader_workers=1,
        ),
        Cause("a loader worker is killed", 5, r"loader worker", images_arguments=", fault: kill", loader_workers=1),
        Cause("a label out of range", 4, r"label 9.*4 classes", images_arguments=", label: 9"),
        Cause("an empty data set", 4, r"no samples", images_arguments=", size: 0, index: -1"),
        Cause(
            "a loss that is not finite",
            4,
            r"step 1: the training loss on rank \d is not finite",
            model="tests.support.noisy:Exploding",
        ),
        Cause("an unused parameter", 4, r"spare took no part", model="tests.support.faulty:IdleNet"),
        Cause("an import that fails", 2, r"nonexistent_library", model="broken_module:Net", modules=broken),
        Cause("an import that fails on one node", 2, r"no driver on this node", model="one_node:Net", modules=one_node),
        Cause("a full disk", 5, r"No space left", disk="200k"),
        Cause(
            "no usable checkpoint",
            3,
            r"none of the \d+ checkpoints can be used",
            images="tests.support.noisy:SlowImages",
            images_arguments=", seconds: 0.1, free: 64",  # eight steps: its checkpoints are met before its end
            before=cut_checkpoints,
        ),
    ]


def failures(seed: int, count: int = 30) -> Result:
    """So many failures, all kinds or some by chance."""
    chosen = random.Random(seed)
    every = causes(chosen)
    taken = every if count >= len(every) else chosen.sample(every, count)
    result = Result("failures", wanted=len(taken), good=0)
    longest = 0
    for cause in taken:
        with tempfile.TemporaryDirectory() as folder:
            fault, lines = one(cause, Path(folder))
        longest = max(longest, lines)
        if fault:
            result.failures.append(f"{cause.name}: {fault}")
        else:
            result.good += 1
    result.notes = f"at most {longest} lines"
    return result


def one(cause: Cause, folder: Path) -> tuple[str, int]:
    """What is wrong with the report of one failure (empty: nothing), and its lines."""
    (folder / "c.yaml").write_text(
        CONFIG.format(
            model=cause.model,
            model_arguments=cause.model_arguments,
            images=cause.images,
            images_arguments=cause.images_arguments,
            loader_workers=cause.loader_workers,
        )
    )
    for name, text in cause.modules.items():
        (folder / f"{name}.py").write_text(text)
    if cause.before is not None:
        cause.before(folder)
    done = run(folder, cause.disk)
    lines = done.stderr.strip().splitlines()
    if done.returncode != cause.exit_code:
        return f"exit code {done.returncode} instead of {cause.exit_code}: {done.stderr}", len(lines)
    if not re.search(cause.says, "\n".join(lines[:3])):
        return f"the cause is not told: {done.stderr}", len(lines)
    if len(lines) > MAX_LINES or "Traceback (most" in done.stderr:
        return f"{len(lines)} lines: {done.stderr}", len(lines)
    return "", len(lines)


def run(folder: Path, disk: str) -> subprocess.CompletedProcess[str]:
    """The job on three workers, its run folders on a small disk of their own if asked for."""
    command = ["train", "c.yaml", "--nproc-per-node", "3"]
    if not disk:
        return jobs.ostinato(folder, *command)
    (folder / "runs").mkdir()
    mount = f"mount -t tmpfs -o size={disk} none runs && exec {sys.executable} -m launcher {' '.join(command)}"
    return subprocess.run(
        ["unshare", "-m", "sh", "-c", mount], cwd=folder, env=jobs.environment(), capture_output=True, text=True, timeout=120, check=False
    )
