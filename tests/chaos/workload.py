"""What the chaos scenarios train: a second or two of a run in which everything that could part two runs takes part."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tests.support.jobs import rows, weights
from tests.support.noisy import NoisyImages
from trainer.checkpoint import store
from trainer.checkpoint.compare import state_digest
from trainer.config.load import dump
from trainer.config.schema import Config
from trainer.rundir import RunDir, read_jsonl, write_atomic

STEPS_PER_EPOCH, LAST_STEP = 5, 30  # of `slow_config`

OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"target": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": True},
    "adamw": {"target": "adamw", "lr": 0.003},
}


class SlowImages(NoisyImages):
    """The noisy images from a slow disk, so that a moment can be aimed at.

    Args:
        size: how many.
        pause_s: the time that one takes.
        gate: a file that has to be there before the first one can be read.
    """

    def __init__(self, size: int = 240, pause_s: float = 0.002, gate: str | None = None) -> None:
        super().__init__(size)
        self.pause_s, self.gate = pause_s, gate

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        while self.gate is not None and not Path(self.gate).exists():
            time.sleep(0.02)
        time.sleep(self.pause_s)
        return super().__getitem__(index)


def make_config(optimizer: str = "sgd", **sections: dict[str, Any]) -> Config:
    """Three virtual ranks, momentum or AdamW, an average of the weights, a validation, frequent saves, a row of metrics a step."""
    base: dict[str, dict[str, Any]] = {
        "model": {"target": "tests.support.noisy:NoisyNet"},
        "data": {
            "train": {"target": "tests.support.noisy:NoisyImages", "size": 480},
            "valid": {"target": "tests.support.noisy:NoisyImages", "size": 53},
            "batch_size": 48,
        },
        "optimizer": OPTIMIZERS[optimizer],
        "schedule": {"target": "cosine", "warmup_steps": 3},
        "train": {"epochs": 4, "virtual_ranks": 3, "clip": {"norm": 1.0}, "ema": {"decay": 0.9}},
        "hardware": {"device": "cpu", "threads": 1},
        "checkpoint": {"every_steps": 3},
        "log": {"every_steps": 1, "fingerprint_every": 1, "tensorboard": False},
    }
    for section, values in sections.items():
        base[section] = {**base.get(section, {}), **values}
    return Config.model_validate({"seed": 11, **base})


def slow_config(loader_workers: int = 0, **sections: dict[str, Any]) -> Config:
    """A run for the command line, long enough to be met at any moment: 5 steps an epoch, about two seconds after its start."""
    data = {
        "train": {"target": "tests.chaos.workload:SlowImages"},
        "valid": {"target": "tests.chaos.workload:SlowImages", "size": 53},
        "batch_size": 48,
        "loader_workers": loader_workers,
    }
    more: dict[str, dict[str, Any]] = {"data": data, "checkpoint": {"every_steps": 4}, "train": {"epochs": 6}}
    for section, values in sections.items():
        more[section] = {**more.get(section, {}), **values}
    return make_config("sgd", **more)


def write_config(folder: Path, config: Config, name: str = "c.yaml") -> str:
    """The config as a file of a user's; its name."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(dump(config), encoding="utf-8")
    return name


def create(path: Path, config: Config) -> RunDir:
    """A run folder that is ready for workers, without a launcher."""
    run = RunDir(path)
    run.create()
    write_atomic(run.config, dump(config).encode())
    return run


@dataclass(frozen=True)
class End:
    """What must be the same at the end of two runs."""

    weights: str
    state: str
    """The last checkpoint: its name, and the digest of weights, optimizer and averaged weights."""
    rows: list[dict[str, Any]]

    @classmethod
    def of(cls, run: RunDir) -> End:
        """Of a finished run."""
        name = store.pointed(run.checkpoints, "last")
        return cls(weights(run), f"{name} {state_digest(run.checkpoints)[:16]}", rows(run))

    def difference(self, other: End) -> str | None:
        """What differs first, in a few words; None: nothing."""
        for number, (one, two) in enumerate(zip(self.rows, other.rows, strict=False)):
            if one != two:
                return f"row {number} of the metrics: {one} instead of {two}"
        if len(self.rows) != len(other.rows):
            return f"{len(self.rows)} rows of metrics instead of {len(other.rows)}"
        if self.weights != other.weights:
            return "the final weights"
        return f"the last checkpoint: {self.state} instead of {other.state}" if self.state != other.state else None


def newest_step(run: RunDir, split: str = "train") -> int:
    """The newest step in a run's metrics; 0: none."""
    return max((int(row["step"]) for row in read_jsonl(run.metrics) if row["split"] == split), default=0)


def lost_checkpoint(events: list[dict[str, Any]]) -> str | None:
    """Whether a resume ever began before the newest checkpoint that had been acknowledged, or met one that did not verify.

    Args:
        events: the run's, oldest first.
    """
    acknowledged = 0
    for row in events:
        if row["event"] == "checkpointed":
            acknowledged = max(acknowledged, int(row["step"]))
        elif row["event"] == "skipped":
            return f"attempt {row['attempt']} skipped a checkpoint: {row['reason']}"
        elif row["event"] in ("started", "resumed"):
            name = row["checkpoint"]
            step = int(name.removeprefix("step-").partition(".")[0]) if name else 0
            if step < acknowledged:
                return f"attempt {row['attempt']} went on from step {step}, and step {acknowledged} had been acknowledged"
    return None
