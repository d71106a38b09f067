"""Run folders as training leaves them, without the training."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from trainer.rundir import RunDir, write_json


def written(path: Path, valid: Iterable[Mapping[str, float]], *, every: int = 1, monitor: str = "auto", wrong: int = 1) -> RunDir:
    """A finished run.

    Args:
        path: its folder.
        valid: the figures of each evaluation on the validation set.
        every: so many steps lie before each.
        monitor: what its config watches.
        wrong: how often the first class was taken for the second.
    """
    run = RunDir(path)
    run.create()
    run.config.write_text(f"train: {{monitor: {monitor}, monitor_mode: auto}}\ntask: {{target: auto}}\n")
    run.event("created", config="x.yaml", overrides=[])
    run.event("started", attempt=0, workers=1, checkpoint=None)
    with open(run.metrics, "w", encoding="utf-8") as file:
        for number, figures in enumerate(valid, 1):
            row = {"time": float(number), "attempt": 0, "step": number * every, "epoch": number, "split": "valid", **figures}
            file.write(json.dumps(row) + "\n")
    write_json(run.evaluation("valid"), {"step": 1, "classes": ["a", "b"], "confusion": [[9, wrong], [0, 7]], "per_class": []})
    run.event("finished", attempt=0)
    return run
