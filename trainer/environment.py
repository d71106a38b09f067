"""What a run ran on: recorded at each start, compared with the start before, because other software or hardware means other bits."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from trainer import __version__
from trainer.config.schema import Config
from trainer.distributed import World
from trainer.masking import SECRET_FILES, masked, masked_text
from trainer.registry import target_files
from trainer.rundir import RunDir, read_json, write_json

# What can change bits. (The number of workers is not among them.)
ARITHMETIC = ("python", "torch", "numpy", "torchvision", "pillow", "device", "cpu_capability", "threads", "cuda", "cudnn")
MAX_DIFF_BYTES = 256 * 1024


def record(config: Config, world: World) -> dict[str, Any]:
    """Versions, code, machine and arithmetic of this start.

    No secrets: environment variables are taken from a short list only, and the command line and git's diff go through `trainer.masking`.
    """
    cuda = world.device.type == "cuda"
    return {
        "ostinato": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        **{name: _version(name) for name in ("numpy", "torchvision", "pillow")},
        "cuda": torch.version.cuda if cuda else None,
        "cudnn": torch.backends.cudnn.version() if cuda else None,
        "device": torch.cuda.get_device_name(world.device) if cuda else cpu_model(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "workers": world.size,
        "virtual_ranks": config.train.virtual_ranks,
        "host": socket.gethostname(),
        "cores": len(os.sched_getaffinity(0)),
        "argv": masked(sys.argv),
        "variables": {name: os.environ[name] for name in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "SLURM_JOB_ID") if name in os.environ},
        "code": code(config),
    }


def cpu_model(path: Path = Path("/proc/cpuinfo")) -> str:
    """The CPU's name as the kernel tells it; the architecture where it tells none (ARM, other systems)."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.machine()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def code(config: Config) -> dict[str, Any]:
    """The working folder's commit and uncommitted change, and the SHA-256 of each file that a target comes from.

    The change leaves out files that are likely to hold secrets, and what looks like one in others is masked. Where a copy runs that was
    made when the job was submitted, it is that copy's commit and hash: what has changed in the folder since then does not run.
    """
    if frozen := os.environ.get("OSTINATO_FROZEN"):
        facts = read_json(Path(frozen).with_suffix(".json"))
        return {"commit": facts.get("commit"), "frozen": Path(frozen).name, "files": _files(config), "ostinato": own_code()}
    commit = _git("rev-parse", "HEAD")
    found: dict[str, Any] = {"commit": commit.strip() if commit else None}
    if commit:
        left_out = [f":(top,exclude,glob,icase)**/{name}{inside}" for name in SECRET_FILES for inside in ("", "/**")]
        change = _git("diff", "--no-ext-diff", "--no-textconv", "--no-color", "HEAD", "--", ":/", *left_out) or ""
        found["diff_sha256"] = hashlib.sha256(change.encode()).hexdigest() if change else None
        found["diff"] = masked_text(change) if len(change) <= MAX_DIFF_BYTES else f"{len(change)} bytes, not kept"
    found["files"] = _files(config)
    found["ostinato"] = own_code()
    return found


def own_code(package: Path = Path(__file__).parent) -> str:
    """The SHA-256 of ostinato's own code that trains, as it runs here: a checkout can be edited without another version."""
    total = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        total.update(f"{path.relative_to(package)}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


def _files(config: Config) -> dict[str, str]:
    return {name: hashlib.sha256(Path(path).read_bytes()).hexdigest() for name, path in target_files(config).items()}


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=10, errors="replace")
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What changed between two starts that can change bits: ``torch 2.13.0 → 2.14.0``."""
    return [f"{name} {before.get(name)} → {now.get(name)}" for name in ARITHMETIC if before.get(name) != now.get(name)]


def append(run: RunDir, entry: dict[str, Any]) -> list[str]:
    """Add this start to ``environment.json``; return what changed since the start before."""
    try:
        entries = list(read_json(run.environment))
    except (OSError, ValueError):
        entries = []
    changed = changes(entries[-1], entry) if entries else []
    write_json(run.environment, [*entries, entry])
    return changed
