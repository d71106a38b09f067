"""NaN and infinity: named at their step, or left out alike on any number of workers; never in a checkpoint."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.exact import go_on, make_config
from tests.support.jobs import ostinato
from tests.support.ranks import RankFailed, run_ranks
from trainer.checkpoint import store
from trainer.data.order import BatchPlan
from trainer.rundir import RunDir

BAD = [17, 60, 150]
PLAN = BatchPlan(n=200, batch_size=48, virtual_ranks=6, seed=11, drop_last=True)


def poisoned(**train: object) -> object:
    data = {"train": {"target": "tests.support.noisy:PoisonedImages", "bad": BAD}}
    return make_config(6, data=data, train={"epochs": 2, **train})


def first_bad() -> tuple[int, int]:
    """The first step that reads a bad sample, counted from 1, and the virtual rank that does."""
    for step in range(PLAN.steps_per_epoch):
        for rank in range(6):
            if set(PLAN.micro_batch(0, step, rank).tolist()) & set(BAD):
                return step + 1, rank
    raise AssertionError("no step reads one")


@pytest.mark.parametrize("workers", [1, 3])
def test_the_first_bad_loss_is_told_with_its_step_rank_and_samples(tmp_path: Path, workers: int) -> None:
    step, virtual_rank = first_bad()
    with pytest.raises(RankFailed) as failed:
        run_ranks(go_on, workers, poisoned(), str(tmp_path / "run"), 99)
    text = str(failed.value)
    assert f"step {step}: the training loss on rank {virtual_rank * workers // 6} is not finite" in text
    assert any(str(bad) in re.findall(r"\d+", text) for bad in BAD)
    assert all(store.load(RunDir(tmp_path / "run").checkpoints / name) for name in store.names(tmp_path / "run" / "checkpoints"))


def test_bad_updates_are_left_out_with_the_same_bits_on_any_number_of_workers_and_through_resumes(tmp_path: Path) -> None:
    config = poisoned(non_finite="skip")
    whole = run_ranks(go_on, 1, config, str(tmp_path / "w1"), 99)[0]
    assert whole.finished
    skipped = [row["skipped"] for row in whole.rows if "skipped" in row]
    assert skipped[-1] >= 2
    assert all("nan" not in str(row).lower() for row in whole.rows)
    for workers in (2, 3):
        assert run_ranks(go_on, workers, config, str(tmp_path / f"w{workers}"), 99)[0] == whole
    folder = str(tmp_path / "resumed")
    for workers, stop in ((3, 2), (1, 5), (2, 99)):
        found = run_ranks(go_on, workers, config, folder, stop)[0]
    assert found == whole


def test_under_fp16_bad_losses_are_left_out_as_well_and_counted(tmp_path: Path) -> None:
    config = poisoned(non_finite="skip", amp="fp16")
    whole = run_ranks(go_on, 1, config, str(tmp_path / "w1"), 99)[0]
    assert whole.finished
    assert [row["skipped"] for row in whole.rows if "skipped" in row][-1] >= 2
    assert run_ranks(go_on, 3, config, str(tmp_path / "w3"), 99)[0] == whole


def test_too_many_left_out_in_a_row_end_the_run(tmp_path: Path) -> None:
    data = {"train": {"target": "tests.support.noisy:PoisonedImages", "bad": list(range(200))}}
    config = make_config(6, data=data, train={"epochs": 2, "non_finite": "skip", "max_skipped": 3})
    with pytest.raises(RankFailed, match=r"4 in a row, more than train\.max_skipped"):
        run_ranks(go_on, 2, config, str(tmp_path / "run"), 99)


CORNERED = """
model: {target: "tests.support.noisy:Cornered"}
data: {train: {target: "tests.support.noisy:NoisyImages"}, batch_size: 24}
optimizer: {target: sgd, lr: 0.1}
train: {epochs: 3}
log: {every_steps: 100}
"""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_gradient_that_is_not_finite_is_told_with_its_own_step_and_not_the_next_one(tmp_path: Path, workers: str) -> None:
    (tmp_path / "c.yaml").write_text(CORNERED)
    done = ostinato(tmp_path, "train", "c.yaml", "--nproc-per-node", workers)
    assert done.returncode == 4
    assert "step 3: a gradient is not finite, though the loss is" in done.stderr
    assert "Traceback" not in done.stderr
    assert "non_finite=skip" in done.stderr
