"""Real runs to look at, and a real browser to look with; both once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.browser import browser as started
from tests.support.jobs import DIGITS, LIMIT_S, events, ostinato, start
from tests.support.slurm_cluster import wait_until
from trainer.rundir import RunDir

QUICK = ("data.batch_size=48", "checkpoint.every_steps=10", "log.every_steps=1", "log.system_every_s=0.2", "log.tensorboard=false")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the runs are."""
    return tmp_path_factory.mktemp("seeing")


@pytest.fixture(scope="session")
def killed(folder: Path) -> RunDir:
    """A run on two workers that was killed, and finished on one."""
    run = RunDir(folder / "runs" / "killed")
    words = ("train", str(DIGITS), *QUICK, "train.epochs=3", "train.virtual_ranks=2", "run.name=killed")
    process = start(folder, *words, "--nproc-per-node", "2")
    wait_until("a checkpoint", lambda: bool(events(run, "checkpointed")), LIMIT_S)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=LIMIT_S)
    done = ostinato(folder, *words, "--nproc-per-node", "1")
    assert done.returncode == 0, done.stderr
    return run


@pytest.fixture(scope="session")
def other(folder: Path) -> RunDir:
    """Another run, with another learning rate."""
    done = ostinato(folder, "train", str(DIGITS), *QUICK, "train.epochs=2", "optimizer.lr=0.1", "run.name=other")
    assert done.returncode == 0, done.stderr
    return RunDir(folder / "runs" / "other")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser for a file's tests."""
    with started() as found:
        yield found
