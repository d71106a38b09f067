"""Everything that can be logged, through real jobs: it says what the rows say, nothing twice, and changes no bit."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support import event_files
from tests.support.jobs import (
    DIGITS,
    LIMIT_S,
    ROOT,
    environment,
    events,
    hurry,
    ostinato,
    pid_of,
    rows,
    slow_digits,
    start,
    wait_for_step,
    weights,
)
from tests.support.slurm_cluster import wait_until
from trainer.metrics.options import curves, final_metrics
from trainer.rundir import RunDir, read_json, read_jsonl

SETTINGS = (
    "train.epochs=3",
    "train.virtual_ranks=2",
    "hardware.threads=1",
    "data.batch_size=64",
    "log.every_steps=2",
    'groups=[{match: "*bias", weight_decay: 0, name: biases}]',
)
EVERYTHING = ("log.images=6", "log.graph=true", "log.histograms_every=1")
NOTHING = ("log.tensorboard=false",)
STEPS = 19  # in an epoch


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A run on one worker, in one go, that draws nothing."""
    folder = tmp_path_factory.mktemp("plain")
    done = ostinato(folder, "train", str(DIGITS), *SETTINGS, *NOTHING)
    assert done.returncode == 0, done.stderr
    return RunDir(folder / "runs" / "digits")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """The same on two workers, stopped in the second epoch, then on one; it draws everything."""
    folder = tmp_path_factory.mktemp("drawn")
    command = ("train", str(DIGITS), *SETTINGS, *EVERYTHING, slow_digits(free=STEPS + 10))
    run = RunDir(folder / "runs" / "digits")
    first = start(folder, *command, "--nproc-per-node", "2")
    wait_for_step(run, STEPS + 3, first)
    first.send_signal(signal.SIGTERM)
    hurry(folder)
    out, err = first.communicate(timeout=120)
    assert first.returncode == 75, (out, err)
    again = ostinato(folder, *command, "--nproc-per-node", "1")
    assert again.returncode == 0, again.stderr
    assert STEPS < events(run, "stopped")[0]["step"] < 3 * STEPS
    return run


@pytest.fixture(scope="module")
def found(drawn: RunDir) -> Any:
    return event_files.board(drawn.tensorboard)


def expected(run: RunDir) -> dict[str, list[tuple[int, float]]]:
    """The curves as the rows have them."""
    points: dict[str, list[tuple[int, float]]] = {}
    for row in read_jsonl(run.metrics):
        for tag, value in curves(row).items():
            points.setdefault(tag, []).append((row["step"], value))
    return points


def same_points(run: RunDir, found: Any) -> None:
    got, wanted = event_files.scalars(found), expected(run)
    assert got.keys() == wanted.keys()
    for tag, points in wanted.items():
        assert [step for step, _ in got[tag]] == [step for step, _ in points], tag
        assert [value for _, value in got[tag]] == pytest.approx([value for _, value in points], rel=1e-6), tag


def test_drawing_changes_no_bit(plain: RunDir, drawn: RunDir) -> None:
    assert weights(drawn) == weights(plain)
    assert rows(drawn) == rows(plain)
    assert not plain.tensorboard.exists()


def test_every_curve_is_that_of_the_rows_through_a_stop_and_another_number_of_workers(drawn: RunDir, found: Any) -> None:
    same_points(drawn, found)
    assert {"loss/train", "loss/epoch", "loss/valid", "loss/test", "accuracy/valid", "f1/test"} <= set(found.Tags()["scalars"])


def test_each_learning_rate_has_its_name(found: Any) -> None:
    assert {tag for tag in found.Tags()["scalars"] if tag.startswith("lr")} == {
        f"lr/{group}/{split}" for group in ("biases", "rest") for split in ("train", "epoch")
    }


def test_the_first_inputs_are_shown_once(found: Any) -> None:
    (event,) = found.Images("inputs/train")
    assert event.step == 0
    pixels = event_files.picture(event)
    assert (pixels.min(), pixels.max()) == (0, 255)


def test_each_validation_has_its_confusion_matrix_once(drawn: RunDir, found: Any) -> None:
    assert [event.step for event in found.Images("confusion/valid")] == [STEPS, 2 * STEPS, 3 * STEPS]
    assert [event.step for event in found.Images("confusion/test")] == [3 * STEPS]
    from trainer.metrics.confusion import draw

    newest = read_json(drawn.evaluation("test"))["confusion"]
    assert (event_files.picture(found.Images("confusion/test")[0]) == draw(newest, [str(number) for number in range(10)])).all()


def test_weights_and_gradients_have_a_histogram_each_epoch(found: Any) -> None:
    tags = set(found.Tags()["histograms"])
    names = {tag.removeprefix("weights/") for tag in tags if tag.startswith("weights/")}
    assert names
    assert tags == {f"{kind}/{name}" for kind in ("weights", "gradients") for name in names}
    for tag in tags:
        drawn = found.Histograms(tag)
        assert [event.step for event in drawn] == [STEPS, 2 * STEPS, 3 * STEPS], tag
        assert len({tuple(event.histogram_value.bucket_limit) for event in drawn}) == 3, f"{tag} never moved"


def test_the_graph_has_the_models_layers(found: Any) -> None:
    assert any("Conv2d" in node.name for node in found.Graph().node)


def test_the_table_of_runs_has_the_options_and_the_final_metrics(drawn: RunDir, found: Any) -> None:
    options, metrics = event_files.hparams(found)
    assert (options["optimizer.lr"], options["model.target"], options["train.epochs"]) == (0.05, "cnn", 3)
    assert metrics == set(final_metrics(read_jsonl(drawn.metrics)))
    assert metrics <= set(found.Tags()["scalars"])


def test_the_table_for_spreadsheets_has_the_rows_of_both_attempts(drawn: RunDir) -> None:
    with drawn.metrics_table.open(newline="") as file:
        table = list(csv.DictReader(file))
    truth = list(read_jsonl(drawn.metrics))
    assert {row["attempt"] for row in table} == {"0", "1"}
    assert [{k: v for k, v in row.items() if v} for row in table] == [{k: str(v) for k, v in row.items() if v is not None} for row in truth]


def test_a_killed_run_has_nothing_twice(tmp_path: Path, plain: RunDir) -> None:
    slow = slow_digits(free=2 * (2 * STEPS + 12))  # the one worker reads for both virtual ranks
    command = ("train", str(DIGITS), *SETTINGS, *EVERYTHING, slow, "checkpoint.every_steps=5", "supervision.max_restarts=0")
    run = RunDir(tmp_path / "runs" / "digits")
    first = start(tmp_path, *command)
    wait_for_step(run, 2 * STEPS + 9, first)
    psutil.Process(pid_of(run, 0)).kill()
    hurry(tmp_path)
    first.communicate(timeout=120)
    again = ostinato(tmp_path, *command)
    assert again.returncode == 0, again.stderr
    assert weights(run) == weights(plain)
    found = event_files.board(run.tensorboard)
    for tag, points in event_files.scalars(found).items():
        wanted = expected(run)[tag]
        assert [step for step, _ in points] == sorted({step for step, _ in points}), tag
        assert {step for step, _ in points} <= {step for step, _ in wanted}  # a kill may take what was drawn in the second before it
    for tag in found.Tags()["images"]:
        steps = [event.step for event in found.Images(tag)]
        assert len(steps) == len(set(steps)), tag
    for tag in found.Tags()["histograms"]:
        steps = [event.step for event in found.Histograms(tag)]
        assert len(steps) == len(set(steps)), tag


def test_a_run_that_is_resumed_after_its_last_epoch_has_everything_once(tmp_path: Path) -> None:
    """Its test is done again: as after a kill between the test and the end."""
    command = ("train", str(DIGITS), *SETTINGS, "log.histograms_every=2")
    run = RunDir(tmp_path / "runs" / "digits")
    assert ostinato(tmp_path, *command).returncode == 0
    told = [row for row in read_jsonl(run.events) if row["event"] != "finished"]
    run.events.write_text("".join(json.dumps(row) + "\n" for row in told))
    again = ostinato(tmp_path, *command)
    assert again.returncode == 0, again.stderr
    found = event_files.board(run.tensorboard)
    same_points(run, found)
    assert [event.step for event in found.Images("confusion/valid")] == [STEPS, 2 * STEPS, 3 * STEPS]
    assert [event.step for event in found.Images("confusion/test")] == [3 * STEPS]


FULL_DISKS = """
for each in tensorboard wandb; do mount -t tmpfs -o size=8k none "$0/$each" || exit 99; done
"$@"
code=$?
for each in tensorboard wandb; do df --output=avail "$0/$each" | tail -n 1 >&2; done
exit $code
"""


def test_a_board_and_wandb_on_full_disks_and_a_table_that_cannot_be_written_cost_nothing_else(tmp_path: Path, plain: RunDir) -> None:
    command = ("train", str(DIGITS), *SETTINGS, slow_digits(free=20))
    run = RunDir(tmp_path / "runs" / "digits")
    first = start(tmp_path, *command, *NOTHING)
    wait_for_step(run, 3, first)
    first.send_signal(signal.SIGTERM)
    hurry(tmp_path)
    out, err = first.communicate(timeout=120)
    assert first.returncode == 75, (out, err)
    run.metrics_table.unlink()
    for folder in (run.metrics_table, run.tensorboard, run.path / "wandb"):
        folder.mkdir()
    words = ("unshare", "-m", "sh", "-c", FULL_DISKS, str(run.path), sys.executable, "-m", "launcher", *command, *EVERYTHING)
    done = subprocess.run(
        (*words, "log.wandb=project"),
        cwd=tmp_path,
        env=environment(WANDB_MODE="offline", HOME=str(tmp_path)),
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert (done.returncode, done.stderr.split()) == (0, ["0", "0"]), done.stdout + done.stderr  # both were full, and nobody shouted
    assert done.stdout.count("TensorBoard is given up (OSError: [Errno 28] No space left on device)") == 1
    assert done.stdout.count("metrics.csv could not be written (Is a directory)") == 1
    assert weights(run) == weights(plain)
    assert rows(run) == rows(plain)


def test_wandb_that_is_not_installed_is_refused_before_anything_is_created(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['wandb'] = None\n")
    process = start(tmp_path, "train", str(DIGITS), "log.wandb=project", PYTHONPATH=os.pathsep.join((str(tmp_path), str(ROOT))))
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert err == (
        "command line: log.wandb=project: the package wandb is not installed; pip install 'ostinato[wandb]', or leave log.wandb out\n"
    )
    assert not (tmp_path / "runs").exists()


def test_wandb_gets_the_config_and_every_row_once_and_nothing_else(tmp_path: Path, plain: RunDir) -> None:
    command = ("train", str(DIGITS), *SETTINGS, "log.wandb=project", slow_digits(free=STEPS + 10))
    run = RunDir(tmp_path / "runs" / "digits")
    first = start(tmp_path, *command, "--nproc-per-node", "2", WANDB_MODE="offline", HOME=str(tmp_path))
    wait_for_step(run, STEPS + 3, first)
    wait_until("wandb", lambda: len(list(run.path.glob("wandb/offline-run-*/*.wandb"))) == 1, LIMIT_S)
    first.send_signal(signal.SIGTERM)
    out, err = first.communicate(timeout=120)
    assert first.returncode == 75, (out, err)
    second = start(tmp_path, *command, WANDB_MODE="offline", HOME=str(tmp_path))
    wait_until("wandb again", lambda: len(list(run.path.glob("wandb/offline-run-*/*.wandb"))) == 2, LIMIT_S)
    hurry(tmp_path)
    out, err = second.communicate(timeout=120)
    assert (second.returncode, err) == (0, ""), out
    assert weights(run) == weights(plain)
    config, sent, kinds = event_files.sent(run.path / "wandb")
    assert (config["optimizer.lr"], config["train.epochs"]) == (0.05, 3)
    by_step: dict[int, dict[str, float]] = {}
    for row in read_jsonl(run.metrics):
        if drawn := curves(row):
            by_step.setdefault(row["step"], {}).update(drawn)
    steps = [row["_step"] for row in sent]
    assert steps == sorted(set(steps)) == sorted(by_step)
    for row in sent:
        assert {name: row[name] for name in by_step[row["_step"]]} == by_step[row["_step"]]
    assert not kinds & {"output", "output_raw", "files", "stats", "artifact"}
    assert len({path.name.rpartition("-")[2] for path in (run.path / "wandb").glob("offline-run-*")}) == 1  # one run, two attempts


def test_wandb_that_cannot_be_reached_is_given_up_in_a_line_and_training_goes_on(tmp_path: Path, plain: RunDir) -> None:
    nowhere = {"HOME": str(tmp_path), "WANDB_MODE": "online", "WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": ""}
    process = start(tmp_path, "train", str(DIGITS), *SETTINGS, *NOTHING, "log.wandb=project", **nowhere)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert out.count("wandb is given up") == 1
    run = RunDir(tmp_path / "runs" / "digits")
    assert weights(run) == weights(plain)
    assert rows(run) == rows(plain)


def test_no_process_of_wandbs_outlives_a_killed_job(tmp_path: Path) -> None:
    command = ("train", str(DIGITS), *SETTINGS, "train.epochs=500", "log.wandb=project", "supervision.max_restarts=0")
    run = RunDir(tmp_path / "runs" / "digits")
    process = start(tmp_path, *command, WANDB_MODE="offline", HOME=str(tmp_path))
    limit = time.monotonic() + 120
    while not list(run.path.glob("wandb/offline-run-*/*.wandb")):
        assert time.monotonic() < limit
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    helpers = psutil.Process(pid_of(run, 0)).children(recursive=True)
    assert any("wandb" in helper.name() for helper in helpers)
    process.kill()
    process.communicate(timeout=60)
    _, alive = psutil.wait_procs(helpers, timeout=60)
    assert not [helper for helper in alive if helper.status() != psutil.STATUS_ZOMBIE]
