"""What a checkpoint will need is known before the first step."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.exact import make_config
from trainer import build, distributed
from trainer.checkpoint import room, store
from trainer.checkpoint.manifest import human
from trainer.checkpoint.saver import Saver
from trainer.files import bytes_below
from trainer.rundir import RunDir


def make_job(**sections: dict[str, Any]) -> build.Job:
    config = make_config(1, **sections)
    return build.build(config, distributed.join(config.hardware))


def one_update(job: build.Job) -> None:
    for parameter in job.state.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    job.state.optimizer.step()


OPTIMIZERS = [
    {"target": "adamw", "lr": 0.1},
    {"target": "torch.optim:Adam", "lr": 0.1, "amsgrad": True},
    {"target": "sgd", "lr": 0.1, "momentum": 0.9},
    {"target": "sgd", "lr": 0.1},
    {"target": "torch.optim:RMSprop", "lr": 0.1},
    {"target": "torch.optim:RMSprop", "lr": 0.1, "momentum": 0.9, "centered": True},
]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: " ".join(map(str, o.values())))
def test_the_size_is_foreseen_before_the_optimizer_has_a_state_and_right_when_it_has(tmp_path: Path, optimizer: dict[str, Any]) -> None:
    job = make_job(optimizer=optimizer)
    foreseen = room.checkpoint_bytes(job.state)
    one_update(job)
    known = room.checkpoint_bytes(job.state)
    name = store.write(tmp_path, job.state.state_dict(job.world), {})
    size = sum(file.stat().st_size for file in (tmp_path / name).iterdir())
    assert foreseen == pytest.approx(size, rel=0.15)
    assert known == pytest.approx(size, rel=0.15)


@pytest.mark.parametrize(
    ("policy", "most"),
    [
        ({"keep_last": 2, "every_s": 10.0}, 4),  # the last two, the best, the one being written
        ({"keep_last": 2, "every_steps": 1}, 4),
        ({"keep_last": 9}, 4),  # three epochs make three saves
        ({"keep_last": 2, "every_steps": 1, "keep_every": 3}, 8),  # and four milestones of twelve steps
    ],
)
def test_the_most_checkpoints_that_will_be_there_at_once(policy: dict[str, Any], most: int) -> None:
    job = make_job(checkpoint=policy)
    assert job.total_steps == 12
    assert room.kept(job.config, job.total_steps) == most


def test_where_there_is_room_nothing_is_said_and_nothing_is_left(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = RunDir(tmp_path / "run")
    run.create()
    job = make_job()
    Saver(run, job.config, job.world, 0).preflight(job)
    assert caplog.records == []
    assert list(run.checkpoints.iterdir()) == []


def test_a_save_that_cannot_be_done_in_the_grace_period_is_foreseen(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = RunDir(tmp_path / "run")
    run.create()
    wide = {"target": "mlp", "in_features": 64, "num_classes": 4, "hidden": 2500, "depth": 2}
    job = make_job(model=wide, supervision={"grace_s": 1e-6}, optimizer={"target": "adamw", "lr": 0.1})
    assert room.checkpoint_bytes(job.state) > room.PROBE_FROM
    Saver(run, job.config, job.world, 0).preflight(job)
    (said,) = (record.getMessage() for record in caplog.records)
    assert said.startswith("a stop may need up to ")
    assert "supervision.grace_s allows 1e-06 s" in said
    assert list(run.checkpoints.iterdir()) == []


def test_a_stop_needs_two_saves_each_written_and_read_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    wide = {"target": "mlp", "in_features": 64, "num_classes": 4, "hidden": 2500, "depth": 2}
    job = make_job(model=wide, optimizer={"target": "adamw", "lr": 0.1})
    said, took = [], []
    for _ in range(3):  # the disk is not ours alone
        caplog.clear()
        run = RunDir(tmp_path / f"run-{len(said)}")
        run.create()
        room.preflight(run.checkpoints, job, 1e-6)
        match = re.match(r"a stop may need up to (\S+) s here", caplog.records[0].getMessage())
        assert match
        said.append(float(match[1]))
        saver = Saver(run, job.config, job.world, 0)
        began = time.monotonic()
        for _ in range(2):
            saver.save(job, None)
        saver.wait()
        took.append(time.monotonic() - began)
    assert min(took) / 20 < min(said) < min(took) * 20  # the same kind of number


def test_a_file_with_a_checkpoints_name_does_not_stand_in_the_way(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "step-00000001").write_bytes(b"mine")
    (tmp_path / "step-00000002").symlink_to("nowhere")
    (tmp_path / "step-00000003").mkdir()
    (tmp_path / "step-00000003" / "state.pt").write_bytes(bytes(1000))
    job = make_job()
    assert not room.preflight(tmp_path, job, 30.0)
    assert caplog.records == []
    assert sum(bytes_below(tmp_path / name) for name in store.names(tmp_path)) == 1004


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 bytes"), (999, "999 bytes"), (1000, "1 kB"), (301_400_000, "301 MB"), (1.2e10, "12 GB"), (5e12, "5 TB")]
)
def test_sizes_are_written_for_people(size: float, text: str) -> None:
    assert human(size) == text
