"""Nearly all options in one config: the same bits on one worker and on three, through a resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.resume.test_options import HERE, plain
from tests.support.exact import fresh, go_on
from tests.support.ranks import run_ranks
from tests.support.training import END
from trainer.config.schema import Config
from trainer.rundir import RunDir, read_jsonl


def everything() -> Config:
    return Config.model_validate(
        {
            **plain().model_dump(exclude_none=True),
            "loss": {"target": "cross_entropy", "label_smoothing": 0.1},
            "optimizer": {"target": "adamw", "lr": 0.003, "weight_decay": 0.05},
            "schedule": {"target": "cosine", "warmup_epochs": 1},
            "task": {"target": f"{HERE}:Shares"},
            "start": {"init": [{"target": "orthogonal", "match": ["0.weight", "9.weight", "12.weight"], "gain": 1.4}]},
            "freeze": [{"match": ["0.*", "1.*"], "until_epoch": 2}],
            "groups": [{"match": ["norms", "biases"], "weight_decay": 0.0}, {"match": "head", "lr": 0.01, "name": "head"}],
            "data": {
                "train": {"target": "tests.support.noisy:NoisyImages"},
                "batch_size": 36,
                "eval_batch_size": 8,
                "valid_fraction": 0.25,
                "stratified": True,
                "drop_last": False,
                "batch_transforms": [{"target": "mixup_or_cutmix", "num_classes": 4}],
            },
            "train": {
                "epochs": 4,
                "virtual_ranks": 6,
                "swa": {"start_epoch": 1},
                "clip": {"norm": 1.0},
                "lr_for_batch": 72,
                "recompute": ["4"],
                "channels_last": True,
                "monitor": "f1",
            },
        }
    )


@pytest.mark.parametrize("stop_at", [3, 12], ids=["while frozen", "thawed and averaged"])  # an epoch has five updates
def test_all_of_them_at_once_give_the_same_bits_on_one_and_three_workers_through_a_resume(tmp_path: Path, stop_at: int) -> None:
    config = everything()
    alone = run_ranks(go_on, 1, config, fresh(tmp_path, "alone"), END)[0]
    assert alone.finished
    assert {"lr/norms,biases", "lr/head", "lr/rest"} <= set(next(row for row in alone.rows if row["split"] == "train"))
    broken = fresh(tmp_path, "broken")
    assert run_ranks(go_on, 3, config, broken, stop_at)[0].step == stop_at
    for result in run_ranks(go_on, 3, config, broken, END):
        assert (result.weights, result.optimizer) == (alone.weights, alone.optimizer)
    assert rows(broken) == alone.rows


def rows(folder: str) -> list[dict[str, Any]]:
    """All metrics of a run, of all its attempts."""
    return [{key: value for key, value in row.items() if key != "time"} for row in read_jsonl(RunDir(folder).metrics)]
