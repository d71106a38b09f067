"""Jobs through the real command line, and configs for them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from trainer.rundir import RunDir, read_json, read_jsonl

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / "configs" / "digits.yaml"
LIMIT_S = 120.0

SHORT = ("train.epochs=3", "data.batch_size=48", "checkpoint.every_steps=5", "log.every_steps=1", "log.fingerprint_every=1")


def environment(**more: str) -> dict[str, str]:
    """This process's variables without what pytest and other jobs may have left."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OSTINATO_", "TORCHELASTIC_", "SLURM_", "COLUMNS", "LINES"))}
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        kept.pop(name, None)
    return {**kept, "PYTHONPATH": str(ROOT), **more}


def start(folder: Path, *arguments: str, module: str = "launcher", **more: str) -> subprocess.Popen[str]:
    """Start ``ostinato …`` (or another module) in a folder."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        env=environment(**more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )


def ostinato(folder: Path, *arguments: str, module: str = "launcher") -> subprocess.CompletedProcess[str]:
    """Run it to its end, which may be that of several jobs."""
    process = start(folder, *arguments, module=module)
    try:
        out, err = process.communicate(timeout=2.3 * LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def torchrun(folder: Path, workers: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Plain torchrun on our worker."""
    return ostinato(folder, "--nproc-per-node", str(workers), "-m", "trainer", *arguments, module="torch.distributed.run")


def wait_for_step(run: RunDir, step: int, process: subprocess.Popen[str], attempt: int = 0) -> int:
    """Wait until the metrics of an attempt, or of a later one, have reached a step; the step that is reached."""
    limit = time.monotonic() + LIMIT_S
    while time.monotonic() < limit:
        reached = max((int(row["step"]) for row in read_jsonl(run.metrics) if row["attempt"] >= attempt), default=0)
        if reached >= step:
            return reached
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    raise AssertionError(f"step {step} was not reached")


def slow_digits(free: int) -> str:
    """An override: the digits, which are slow once a process has read so many micro-batches, until the run is told to hurry."""
    return _slow("slow:SlowDigits", 0.5, free)


def slow_images(free: int) -> str:
    """An override: the noisy images, which are slow once a process has read so many, until the run is told to hurry."""
    return _slow("noisy:SlowImages", 0.1, free)


def _slow(target: str, seconds: float, free: int) -> str:
    return f'data.train={{target: "tests.support.{target}", seconds: {seconds}, free: {free}, until: hurry}}'


def hurry(folder: Path) -> None:
    """Tell the slow runs that were started in a folder that there is nothing more to wait for."""
    (folder / "hurry").touch()


def catches(pid: int, number: int) -> bool:
    """Whether a process handles a signal by now; until it does, the signal does what the system does with it."""
    with suppress(OSError):  # it has ended
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        caught = next(line for line in lines if line.startswith("SigCgt:")).split()[1]
        return bool(int(caught, 16) >> (number - 1) & 1)
    return False


def pid_of(run: RunDir, rank: int) -> int:
    """The process of a rank, from its heartbeat."""
    return int(read_json(run.heartbeat(rank))["pid"])


def kill_all(process: subprocess.Popen[str]) -> None:
    """SIGKILL the launcher; its workers must go with it."""
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=LIMIT_S)


def events(run: RunDir, name: str) -> list[dict[str, Any]]:
    """The run's events of one name."""
    return [row for row in read_jsonl(run.events) if row["event"] == name]


def weights(run: RunDir) -> str:
    """SHA-256 of a finished run's weights."""
    return str(events(run, "finished")[-1]["weights"])


def rows(run: RunDir) -> list[dict[str, Any]]:
    """The run's metrics without what may differ between two equal runs."""
    return [{k: v for k, v in row.items() if k not in ("time", "attempt")} for row in read_jsonl(run.metrics)]
