"""Makes a run whose checkpoints are all cut short."""

from __future__ import annotations

import time
from pathlib import Path

from tests.support import jobs
from trainer.checkpoint import store
from trainer.rundir import RunDir


def cut_checkpoints(folder: Path) -> None:
    """Train a few steps, and cut every checkpoint; the run is not finished."""
    run = RunDir(folder / "runs" / "c")
    process = jobs.start(folder, "train", "c.yaml", "log.every_steps=1", "--nproc-per-node", "3")
    jobs.wait_for_step(run, 4, process)
    while not store.names(run.checkpoints) and process.poll() is None:
        time.sleep(0.005)
    jobs.kill_all(process)
    for name in store.names(run.checkpoints):
        path = run.checkpoints / name / store.STATE
        path.write_bytes(path.read_bytes()[:-100])
