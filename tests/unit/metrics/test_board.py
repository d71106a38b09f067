"""What is drawn for TensorBoard is what TensorBoard reads, and a fault of it costs nothing else."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.support.event_files import board, hparams, picture, scalars
from trainer.metrics.behind import Behind
from trainer.metrics.board import Board
from trainer.metrics.writer import MetricsWriter, keep_rows
from trainer.rundir import RunDir


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    run = RunDir(tmp_path / "run")
    run.create()
    return run


def test_points_pictures_and_options_are_read_back(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    drawn = Board(tmp_path / "board", 0)
    drawn.scalars(3, {"loss/train": 0.25, "lr/head/train": 0.5}, at=12.5)
    drawn.picture("picture", 4, lambda: pixels)
    drawn.hparams({"optimizer.lr": 0.1, "model.target": "cnn", "nesterov": True}, {"accuracy/valid": 0.5})
    drawn.close()
    found = board(tmp_path / "board")
    assert scalars(found) == {"loss/train": [(3, 0.25)], "lr/head/train": [(3, 0.5)]}
    assert found.Scalars("loss/train")[0].wall_time == 12.5
    (event,) = found.Images("picture")
    assert event.step == 4
    assert np.array_equal(picture(event), pixels)
    assert hparams(found) == ({"optimizer.lr": 0.1, "model.target": "cnn", "nesterov": 1.0}, {"accuracy/valid"})


def test_histograms_are_those_of_the_moment_and_leave_out_what_is_not_finite(tmp_path: Path) -> None:
    weight = torch.linspace(-1, 3, 1000)
    drawn = Board(tmp_path / "board", 0)
    drawn.histograms(
        1, [("weights/a", weight), ("gradients/a", torch.tensor([1.0, torch.nan, 2.0, torch.inf])), ("b", torch.tensor([torch.nan]))]
    )
    weight.zero_()  # the loop goes on at once
    drawn.histograms(2, [("weights/a", weight.bfloat16())])
    drawn.close()
    found = board(tmp_path / "board")
    one, two = (event.histogram_value for event in found.Histograms("weights/a"))
    assert (one.num, one.min, one.max) == (1000, -1, 3)
    assert sum(one.bucket) == 1000
    assert (two.min, two.max) == (0, 0)
    assert [event.histogram_value.num for event in found.Histograms("gradients/a")] == [2]
    assert "b" not in found.Tags()["histograms"]


def test_a_graph_is_drawn_at_once_and_has_the_models_layers(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    drawn = Board(tmp_path / "board", 0)
    drawn.graph(model, torch.zeros(2, 4))
    drawn.scalars(1, {"loss": 1.0})
    drawn.close()
    nodes = [node.name for node in board(tmp_path / "board").Graph().node]
    assert any("Linear[0]" in name for name in nodes)
    assert any("BatchNorm1d[1]" in name for name in nodes)


class Stubborn(nn.Module):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("not with me\nand not in two lines")


def test_a_graph_that_cannot_be_drawn_is_said_in_a_line_and_curves_are_drawn_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn = Board(tmp_path / "board", 0)
    drawn.graph(Stubborn(), torch.zeros(1))
    drawn.scalars(1, {"loss": 1.0})
    drawn.close()
    assert [record.getMessage() for record in caplog.records] == ["log.graph: the graph could not be drawn (RuntimeError: not with me)"]
    assert capsys.readouterr().out == ""
    assert scalars(board(tmp_path / "board")) == {"loss": [(1, 1.0)]}


def test_a_board_that_cannot_be_written_is_given_up_once_and_holds_nobody_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "board").write_text("a file where the folder should be")
    drawn = Board(tmp_path / "board", 0)
    began = time.monotonic()
    for step in range(5):
        drawn.histograms(step, [("weights", torch.ones(3))])
        drawn.scalars(step, {"loss": 1.0})
    drawn.close()
    assert time.monotonic() - began < 8  # the limit of one wait for room is 10 s
    assert [record.getMessage().partition(" (")[0] for record in caplog.records] == ["TensorBoard is given up"]


def test_work_that_hangs_holds_up_neither_training_nor_its_end(caplog: pytest.LogCaptureFixture) -> None:
    never = threading.Event()
    behind = Behind("slow place")
    behind.later(never.wait)
    behind.later(lambda: None)
    behind.close(lambda: None, limit_s=0.2)
    assert "slow place did not end within 0.2 s" in caplog.text
    never.set()


def test_a_fault_is_said_once_in_one_line_and_later_work_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    done: list[int] = []

    def fail() -> None:
        raise OSError("no network\nlong story")

    behind = Behind("far away")
    behind.later(lambda: done.append(1))
    behind.later(fail)
    behind.later(lambda: done.append(2))
    behind.close(lambda: done.append(3), limit_s=10)
    assert done == [1]
    assert [record.getMessage() for record in caplog.records] == ["far away is given up (OSError: no network); metrics.jsonl goes on"]


def test_what_is_drawn_is_on_the_disk_soon_without_an_end(tmp_path: Path) -> None:
    drawn = Board(tmp_path / "board", 0)
    for step in (1, 2, 3):
        drawn.scalars(step, {"loss": float(step)})
    limit = time.monotonic() + 60
    while not (tmp_path / "board").exists() or scalars(board(tmp_path / "board")).get("loss") != [(1, 1.0), (2, 2.0), (3, 3.0)]:
        assert time.monotonic() < limit
        time.sleep(0.1)
    drawn.close()


def test_a_resume_at_a_closed_epoch_forgets_what_came_after_it(run: RunDir) -> None:
    first = MetricsWriter(run, True, 0, 0)
    for step in (1, 2, 3):
        first.row(0.0, "train", step, 0, {"loss": float(step)})
    first.close()
    keep_rows(run, 2)
    second = MetricsWriter(run, True, 1, 2, whole=True)
    second.row(0.0, "train", 3, 0, {"loss": 3.0})
    second.close()
    assert scalars(board(run.tensorboard)) == {"loss/train": [(1, 1.0), (2, 2.0), (3, 3.0)]}


def test_a_resume_in_an_open_epoch_draws_its_first_step_anew_from_the_rows_that_are_left(run: RunDir) -> None:
    first = MetricsWriter(run, True, 0, 0)
    first.row(0.0, "train", 1, 0, {"loss": 1.0})
    first.row(0.0, "train", 2, 0, {"loss": 2.0})  # here a stop came during the evaluation, and this was saved
    first.row(0.0, "valid", 2, 1, {"loss": 5.0})  # by another attempt, which was killed
    first.close()
    keep_rows(run, 2)
    second = MetricsWriter(run, True, 1, 2)
    second.row(0.0, "valid", 2, 1, {"loss": 5.0})
    second.close()
    assert scalars(board(run.tensorboard)) == {"loss/train": [(1, 1.0), (2, 2.0)], "loss/valid": [(2, 5.0)]}


def test_a_start_over_from_step_0_forgets_the_first_inputs_as_well(run: RunDir) -> None:
    for attempt in (0, 1):
        writer = MetricsWriter(run, True, attempt, 0)
        assert writer.board is not None
        writer.board.picture("inputs/train", 0, lambda: np.zeros((2, 2, 3), np.uint8))
        writer.close()
        keep_rows(run, 0)
    assert len(board(run.tensorboard).Images("inputs/train")) == 1
