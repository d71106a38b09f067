"""Rows are written for people and machines, and cut back to a checkpoint's."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.metrics.writer import MetricsWriter, keep_rows
from trainer.rundir import RunDir, read_jsonl


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    run = RunDir(tmp_path / "run")
    run.create()
    return run


def test_rows_are_cut_back_to_a_checkpoints_and_a_torn_one_is_not_counted(run: RunDir) -> None:
    writer = MetricsWriter(run, False, 0, 0)
    for step in (1, 2):
        writer.row(0.0, "train", step, 0, {"loss": 1 / step})
    with run.metrics.open("ab") as file:
        file.write(b'{"step": 3, "lo')
    writer.row(0.0, "train", 3, 0, {"loss": 0.1})
    writer.row(0.0, "train", 4, 0, {"loss": 0.1})
    assert writer.rows == 4
    keep_rows(run, 3)
    assert [row["step"] for row in read_jsonl(run.metrics)] == [1, 2, 3]
    assert MetricsWriter(run, False, 1, 3).rows == 3


def test_without_a_checkpoint_no_row_stays(run: RunDir) -> None:
    MetricsWriter(run, False, 0, 0).row(0.0, "train", 1, 0, {"loss": 1.0})
    keep_rows(run, 0)
    assert run.metrics.read_bytes() == b""


def test_a_tensorboard_that_cannot_be_written_is_given_up_and_the_rows_go_on(run: RunDir, caplog: pytest.LogCaptureFixture) -> None:
    run.tensorboard.write_text("a file where the folder should be")
    writer = MetricsWriter(run, True, 0, 0)
    writer.row(0.0, "train", 1, 0, {"loss": 1.0})
    writer.row(0.0, "train", 2, 0, {"loss": 0.5})
    writer.close()
    assert [row["step"] for row in read_jsonl(run.metrics)] == [1, 2]
    assert "TensorBoard is given up" in caplog.text


FULL = """
import logging, sys
from trainer.metrics.writer import MetricsWriter
from trainer.rundir import RunDir
logging.basicConfig()
run = RunDir(sys.argv[1])
writer = MetricsWriter(run, True, 0, 0)
for step in range(1, 3001):
    writer.row(0.0, "train", step, 0, {"loss": 1 / step})
    writer.curves(step, {f"system/{number}/{'x' * 900}": 1.0 for number in range(3)})
writer.close()
"""


def test_a_tensorboard_on_a_full_disk_is_given_up_and_the_rows_go_on(run: RunDir) -> None:
    run.tensorboard.mkdir()
    command = f'mount -t tmpfs -o size=1m none "$1/tensorboard" && exec "{sys.executable}" -c "$2" "$1"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", command, "sh", str(run.path), FULL],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert [row["step"] for row in read_jsonl(run.metrics)] == list(range(1, 3001))
    assert "TensorBoard" in done.stderr  # it was full indeed, and that was said
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_table_that_cannot_be_written_is_said_in_a_line_and_the_rows_are_whole(run: RunDir, caplog: pytest.LogCaptureFixture) -> None:
    run.metrics_table.mkdir()
    writer = MetricsWriter(run, False, 0, 0)
    writer.row(0.0, "train", 1, 0, {"loss": 1.0})
    writer.close()
    assert [row["step"] for row in read_jsonl(run.metrics)] == [1]
    assert [record.getMessage() for record in caplog.records] == [
        f"{run.metrics_table} could not be written (Is a directory); metrics.jsonl is whole"
    ]


def test_a_metrics_name_that_no_file_can_hold_does_not_end_a_run(run: RunDir, caplog: pytest.LogCaptureFixture) -> None:
    writer = MetricsWriter(run, True, 0, 0)
    writer.row(0.0, "valid", 1, 0, {"half a \ud83d face": 1.0})
    writer.row(0.0, "valid", 2, 0, {"loss": 1.0})
    writer.close()
    assert [row["step"] for row in read_jsonl(run.metrics)] == [1, 2]
    assert len(caplog.records) == 2  # the board's fault, and the table's


def test_a_tensorboard_is_its_owners_alone(run: RunDir) -> None:
    writer = MetricsWriter(run, True, 0, 0)
    writer.row(0.0, "train", 1, 0, {"loss": 1.0})
    writer.close()
    (file,) = run.tensorboard.iterdir()
    assert (stat.S_IMODE(run.tensorboard.stat().st_mode), stat.S_IMODE(file.stat().st_mode)) == (0o700, 0o600)


def test_a_tensorboard_that_is_a_symbolic_link_is_not_written_through(
    run: RunDir, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "outside").mkdir()
    run.tensorboard.symlink_to(tmp_path / "outside")
    writer = MetricsWriter(run, True, 0, 0)
    writer.row(0.0, "train", 1, 0, {"loss": 1.0})
    writer.close()
    assert list((tmp_path / "outside").iterdir()) == []
    assert "is a symbolic link" in caplog.text
