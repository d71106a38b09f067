"""A run that pauses at the end of an epoch by itself, and goes on from there to the same bits."""

from __future__ import annotations

from pathlib import Path

from tests.support.jobs import DIGITS, events, ostinato, rows, weights
from trainer.rundir import RunDir, read_jsonl

TRAIN = ("train", str(DIGITS), "train.epochs=3", "data.batch_size=96", "log.every_steps=1", "train.virtual_ranks=2", "data.test=null")


def test_a_paused_run_waits_until_somebody_lets_it_go_on_and_has_the_bits_of_one_that_never_paused(tmp_path: Path) -> None:
    done = ostinato(tmp_path, *TRAIN, "run.name=whole", "run.pause_after_epoch=3", "--nproc-per-node", "2")
    assert done.returncode == 0, "the end is no pause"
    assert "run.pause_after_epoch: the whole run has 3 epochs, so there is no pause" in done.stdout
    whole, paused = RunDir(tmp_path / "runs" / "whole"), RunDir(tmp_path / "runs" / "paused")
    pausing = (*TRAIN, "run.name=paused", "run.pause_after_epoch=1")
    for attempt in (0, 1):  # the second one finds that the epoch is done, and trains nothing
        done = ostinato(tmp_path, *pausing, "--nproc-per-node", "2")
        assert done.returncode == 75, done.stderr
        assert done.stdout.splitlines()[-1].startswith("paused after epoch 1, at step ")
        assert [(row["split"], row["epoch"]) for row in rows(paused)][-2:] == [("epoch", 1), ("valid", 1)]
        assert [row["attempt"] for row in events(paused, "stopped")] == list(range(attempt + 1))
        assert len(events(paused, "checkpointed")) == 1
    status = ostinato(tmp_path, "status", "runs/paused")
    assert "stopped (paused after epoch 1)" in status.stdout
    done = ostinato(tmp_path, "resume", "runs/paused", "--nproc-per-node", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (weights(paused), rows(paused)) == (weights(whole), rows(whole))
    assert {row["attempt"] for row in read_jsonl(paused.metrics)} == {0, 2}
