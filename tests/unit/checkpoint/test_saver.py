"""A checkpoint says what it is of, and one of something else is refused with what differs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.exact import make_config
from tests.support.ranks import run_ranks
from trainer import build, distributed
from trainer.checkpoint import store
from trainer.checkpoint.saver import Saver
from trainer.config.schema import Config
from trainer.errors import CheckpointError
from trainer.rundir import RunDir

SGD = {"target": "sgd", "lr": 0.1, "momentum": 0.9}


def saver_of(run: RunDir, config: Config) -> tuple[Saver, build.Job]:
    world = distributed.join(config.hardware)
    return Saver(run, config, world, 0), build.build(config, world)


@pytest.fixture
def saved(tmp_path: Path) -> RunDir:
    """A run with one checkpoint, which is the best."""
    run = RunDir(tmp_path / "run")
    run.create()
    saver, job = saver_of(run, make_config(1, optimizer=SGD))
    saver.save(job, None, best=1.0)
    saver.wait()
    return run


def take(folders: list[str], way: str) -> tuple[str | None, int]:
    """In a rank: take a checkpoint from the folder as this rank sees it; its name and its step."""
    config = make_config(2, optimizer=SGD)
    world = distributed.join(config.hardware)
    saver, job = Saver(RunDir(folders[world.rank]), config, world, 0), build.build(config, world)
    name = getattr(saver, way)(job)
    step = job.state.step
    del job  # the wrapped model goes before the process group
    distributed.leave(world)
    return name, step


@pytest.mark.parametrize("way", ["restore", "load_best"])
def test_all_ranks_take_the_checkpoint_of_rank_0_although_one_is_shown_an_older_list(tmp_path: Path, way: str) -> None:
    run, config = RunDir(tmp_path / "run"), make_config(2, optimizer=SGD, checkpoint={"keep_last": 9})
    run.create()
    saver, job = saver_of(run, config)
    for step in (0, 3, 6):
        job.state.step = step
        saver.save(job, None)
        saver.wait()
    older = tmp_path / "older"
    shutil.copytree(run.path, older)
    shutil.rmtree(run.checkpoints / "step-00000000")  # removed by rank 0, and still in the other's list
    found = run_ranks(take, 2, [str(run.path), str(older)], way)
    assert found == [("step-00000006", 6 if way == "restore" else 0)] * 2


def rewrite(run: RunDir, change: Any) -> None:
    path = run.checkpoints / store.names(run.checkpoints)[0] / store.MANIFEST
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps({**manifest, "seal": store.seal(manifest)}))


@pytest.mark.parametrize("way", ["restore", "load_best"])
def test_a_checkpoint_of_other_settings_is_refused_with_what_differs(saved: RunDir, way: str) -> None:
    saver, job = saver_of(saved, make_config(1, optimizer={**SGD, "lr": 0.2}, train={"epochs": 4, "ema": {"decay": 0.9}}))
    with pytest.raises(CheckpointError) as caught:
        getattr(saver, way)(job)
    text = str(caught.value)
    assert "step-00000000" in text
    assert "optimizer.lr: 0.1 -> 0.2" in text
    assert "train.epochs: 3 -> 4" in text
    assert "momentum" not in text
    assert "\n" not in text
    assert caught.value.exit_code == 3
    assert store.names(saved.checkpoints) == ["step-00000000"]


@pytest.mark.parametrize("way", ["restore", "load_best"])
def test_settings_that_change_no_number_may_differ(saved: RunDir, way: str) -> None:
    config = make_config(1, optimizer=SGD, checkpoint={"keep_last": 7}, log={"every_steps": 3}, supervision={"grace_s": 5.0})
    saver, job = saver_of(saved, config)
    assert getattr(saver, way)(job) == "step-00000000"


def test_an_option_that_the_checkpoint_does_not_know_yet_counts_as_its_default(saved: RunDir) -> None:
    def older(manifest: dict[str, Any]) -> None:
        manifest["config"] = "0" * 64
        del manifest["settings"]["train"]["non_finite"]

    rewrite(saved, older)
    saver, job = saver_of(saved, make_config(1, optimizer=SGD))
    assert saver.restore(job) == "step-00000000"
    skipping = make_config(1, optimizer=SGD, train={"epochs": 3, "ema": {"decay": 0.9}, "non_finite": "skip"})
    saver, job = saver_of(saved, skipping)
    with pytest.raises(CheckpointError, match=r"train\.non_finite: raise -> skip"):
        saver.restore(job)


def test_a_checkpoint_without_recorded_settings_is_known_by_their_hash(saved: RunDir) -> None:
    rewrite(saved, lambda manifest: manifest.pop("settings"))
    saver, job = saver_of(saved, make_config(1, optimizer=SGD))
    assert saver.restore(job) == "step-00000000"
    rewrite(saved, lambda manifest: manifest.update(config="0" * 64))
    with pytest.raises(CheckpointError, match="not recorded"):
        saver.restore(job)


@pytest.mark.parametrize("settings", [{"option": "of the future"}, [1, 2], "text", None])
def test_settings_that_are_not_understood_are_refused_in_one_line(saved: RunDir, settings: Any) -> None:
    rewrite(saved, lambda manifest: manifest.update(settings=settings, config="0" * 64))
    saver, job = saver_of(saved, make_config(1, optimizer=SGD))
    with pytest.raises(CheckpointError, match="another version") as caught:
        saver.restore(job)
    assert "\n" not in str(caught.value)


def test_a_save_during_a_save_waits_and_both_are_there(saved: RunDir) -> None:
    saver, job = saver_of(saved, make_config(1, optimizer=SGD, checkpoint={"keep_last": 9}))
    for step in range(1, 6):
        job.state.step = step
        saver.save(job, None)
        saver.check()
    saver.wait()
    saver.wait()
    assert [store.step_of(name) for name in store.names(saved.checkpoints)] == [0, 1, 2, 3, 4, 5]
    assert store.newest_good(saved.checkpoints) == ("step-00000005", [])


def test_what_is_written_is_the_state_at_the_save_and_not_the_one_at_the_end_of_the_write(saved: RunDir) -> None:
    saver, job = saver_of(saved, make_config(1, optimizer=SGD))
    weight = next(job.state.model.parameters())
    before = weight.detach().clone()
    job.state.step = 1
    saver.save(job, None)
    weight.data.zero_()
    saver.wait()
    found = store.load(saved.checkpoints / "step-00000001")["model"]["0.weight"]
    assert (found == before).all()
    assert before.any()
