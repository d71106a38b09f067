"""Runs a config in this process's rank, from its newest checkpoint to a step, and says what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

from trainer import build, distributed, loop, seed
from trainer.agreement import Agreement
from trainer.checkpoint.saver import Saver
from trainer.config.load import dump
from trainer.config.schema import Config
from trainer.fingerprint import sha256
from trainer.metrics.writer import MetricsWriter
from trainer.rundir import RunDir, read_jsonl, write_atomic
from trainer.stop import StopRequest


class StopAt(StopRequest):
    """Asks for the stop at a step instead of by a signal."""

    def __init__(self, job: build.Job, step: int) -> None:
        self.job, self.step = job, step

    @property
    def by(self) -> str | None:  # type: ignore[override]
        return "the test" if self.job.state.step >= self.step - 1 else None


@dataclass(frozen=True)
class Result:
    """What must be the same."""

    step: int
    finished: bool
    weights: str
    optimizer: str
    ema: str
    rows: list[dict[str, Any]]


def go_on(config: Config, folder: str, stop_at: int, sabotage: Callable[[build.Job], None] | None = None) -> Result:
    """Train from the newest checkpoint in `folder` until `stop_at` updates are done, or the end; `sabotage` spoils the job first."""
    run = RunDir(folder)
    world = distributed.join(config.hardware)
    if world.is_main and not run.exists():
        run.create()
        write_atomic(run.config, dump(config).encode())
    world.barrier()
    torch.set_num_threads(1)
    seed.set_arithmetic(config.hardware, 1)
    job = build.build(config, world)
    saver = Saver(run, config, world, attempt=0)
    saver.restore(job)
    if sabotage is not None:
        sabotage(job)
    writer = MetricsWriter(run, False, 0, job.state.step) if world.is_main else None
    around = loop.Around(writer, saver, StopAt(job, stop_at), Agreement(world, pause_s=0))
    finished = loop.fit(job, around)
    saver.wait()
    state = job.state.state_dict(world)  # before the test, which takes the best checkpoint's weights
    hashes = sha256(state["model"]), sha256(state["optimizer"]), sha256(state["ema"] or {})
    if finished:
        loop.test(job, around)
    job.loader.close()
    rows = [{k: v for k, v in row.items() if k != "time"} for row in read_jsonl(run.metrics)] if world.is_main else []
    return Result(job.state.step, finished, *hashes, rows)


def plain_all_reduce(job: build.Job) -> None:
    """DDP as it comes: no tree."""
    job.update.ddp = job.update.forward = DistributedDataParallel(job.state.model)


def scheduler_after_loading(job: build.Job) -> None:
    """Make the scheduler once more, now that the optimizer's state is loaded, as many scripts do."""
    job.state.schedule = build.make_schedule(job.config, job.state.optimizer, job.total_steps, job.plan.steps_per_epoch)


def make_config(virtual_ranks: int, **sections: dict[str, Any]) -> Config:
    """The noisy job: 4 classes, 200 samples; sections are merged over the defaults below."""
    base: dict[str, dict[str, Any]] = {
        "run": {"name": "exact"},
        "model": {"target": "tests.support.noisy:NoisyNet"},
        "data": {
            "train": {"target": "tests.support.noisy:NoisyImages"},
            "valid": {"target": "tests.support.noisy:NoisyImages", "size": 53},
            "batch_size": 48,
            "eval_batch_size": 8,
        },
        "optimizer": {"target": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": True},
        "schedule": {"target": "cosine", "warmup_steps": 3},
        "train": {"epochs": 3, "virtual_ranks": virtual_ranks, "clip": {"norm": 1.0}, "ema": {"decay": 0.9}},
        "hardware": {"device": "cpu", "threads": 1},
        "log": {"every_steps": 2, "fingerprint_every": 2, "tensorboard": False},
    }
    for section, values in sections.items():
        base[section] = values if "target" in values else {**base.get(section, {}), **values}
    return Config.model_validate({"seed": 11, **base})


def fresh(tmp_path: Path, name: str) -> str:
    """A new run folder."""
    return str(tmp_path / name)
