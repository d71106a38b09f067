"""Successive halving on this machine: the best of each rung go on from their checkpoints, through kills, to the same bits."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from launcher.standing import lock_of
from tests.support.jobs import DIGITS, LIMIT_S, events, ostinato, rows, start, weights
from tests.support.slurm_cluster import wait_until
from tests.support.submitted import write_config
from trainer.rundir import RunDir, read_json, read_jsonl

pytestmark = pytest.mark.timeout(600)  # on a busy machine each start takes its time

SETTINGS = (
    *("train.epochs=4", "data.batch_size=192", "log.every_steps=1", "log.tensorboard=false", "hardware.threads=1"),
    *("schedule.target=constant", "schedule.warmup_epochs=0", "data.test=null"),
)
AXES = ("--random", "4", "--grid", "optimizer.lr=log(1e-3,1)", "--grid", "seed=0,1")
SWEEP = ("sweep", str(DIGITS), *SETTINGS, *AXES, "--halving", "--eta", "2", "--parallel", "2", "--nproc-per-node", "1")


def runs_of(folder: Path) -> list[RunDir]:
    about = read_json(folder / "runs" / "_sweeps" / "digits" / "sweep.json")
    return [RunDir(folder / "runs" / point["run"]) for point in about["points"]]


def epochs(run: RunDir) -> int:
    return max((int(row["epoch"]) for row in read_jsonl(run.metrics) if row["split"] == "valid"), default=0)


def saved(run: RunDir) -> str:
    return str(events(run, "checkpointed")[-1]["weights"])


def free(run: RunDir) -> bool:
    return not lock_of(run.lock)[0]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A sweep that nobody disturbs."""
    folder = tmp_path_factory.mktemp("whole")
    done = ostinato(folder, *SWEEP, "--json")
    assert done.returncode == 0, done.stderr
    return folder, done


def test_the_best_of_each_rung_go_on_and_the_winner_has_the_bits_of_a_run_that_never_paused(
    whole: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, done = whole
    runs = runs_of(folder)
    assert sorted(map(epochs, runs)) == [1, 1, 2, 4]
    after_one = {run.name: next(row["loss"] for row in rows(run) if row["split"] == "valid") for run in runs}
    assert {run.name for run in runs if epochs(run) > 1} == set(sorted(after_one, key=lambda name: after_one[name])[:2])
    table = json.loads(done.stdout)
    assert [(row["winner"], row["state"], row["epoch"]) for row in table[:2]] == [(True, "finished", 4), (False, "stopped", 2)]
    (winner,) = [run for run in runs if run.finished()]
    assert winner.name == table[0]["name"]
    assert [len(events(winner, name)) for name in ("started", "resumed", "stopped", "finished")] == [1, 2, 2, 1]
    assert [row["epoch"] for row in events(winner, "stopped")] == [1, 2]
    values = [f"{key}={value}" for key, value in table[0]["values"].items()]
    straight = ostinato(folder, "train", str(DIGITS), *SETTINGS, *values, "run.name=straight", "--nproc-per-node", "1")
    assert straight.returncode == 0, straight.stderr
    alone = RunDir(folder / "runs" / "straight")
    assert (weights(winner), rows(winner)) == (weights(alone), rows(alone))


def test_a_halving_that_is_killed_in_two_rungs_ends_as_one_that_was_not(
    whole: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    for moment in ("paused", "resumed"):  # in the first rung, one is through and others are not; in the second, one has gone on
        process = start(tmp_path, *SWEEP)
        wait_until(f"a run has {moment}", lambda word=moment: word in said(tmp_path), LIMIT_S)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=LIMIT_S)
        wait_until("its runs have stopped", lambda: all(free(run) for run in runs_of(tmp_path)), LIMIT_S)
    before = {run.name: run.events.read_bytes() for run in runs_of(tmp_path) if run.exists()}
    out = {run.name for run in runs_of(whole[0]) if epochs(run) == 1}
    assert out <= set(before)
    done = ostinato(tmp_path, *SWEEP, "--json")
    assert done.returncode == 0, done.stderr
    pairs = list(zip(runs_of(whole[0]), runs_of(tmp_path), strict=True))
    assert [(run.name, epochs(run), saved(run)) for run, _ in pairs] == [(run.name, epochs(run), saved(run)) for _, run in pairs]
    assert all(rows(one) == rows(two) for one, two in pairs)
    assert all(RunDir(tmp_path / "runs" / name).events.read_bytes() == before[name] for name in out), "they were left alone"
    ends = {run.name: (run.events.read_bytes(), run.events.stat().st_mtime_ns) for _, run in pairs}
    again = ostinato(tmp_path, *SWEEP, "--json")
    assert (again.returncode, again.stdout) == (0, done.stdout)
    assert {run.name: (run.events.read_bytes(), run.events.stat().st_mtime_ns) for _, run in pairs} == ends


def said(folder: Path) -> str:
    """Whether a run has paused, and whether one has gone on from that."""
    words = ""
    for run in (folder / "runs").glob("digits-*"):
        names = [row["event"] for row in read_jsonl(RunDir(run).events) if row["event"] in ("stopped", "resumed")]
        paused = any("reason" in row for row in read_jsonl(RunDir(run).events))
        words += ("paused " if paused else "") + ("resumed " if paused and names[-1] == "resumed" else "")
    return words


def test_a_point_that_fails_is_out_and_told_and_the_others_go_on(tmp_path: Path) -> None:
    write_config(tmp_path, seconds=0.0, model="tests.support.faulty:FaultyNet", more=", fault: '', rank: 0")
    words = ("sweep", "c.yaml", "train.epochs=2", "--grid", "model.fault=exception,''", "--halving", "--eta", "2")
    done = ostinato(tmp_path, *words, "--json")
    assert done.returncode == 0, done.stderr
    assert "c-model_fault" not in done.stderr
    assert ": out, failed with exit code 4" in done.stderr
    assert [row["state"] for row in json.loads(done.stdout)] == ["finished", "failed"]
    before = {path: path.read_bytes() for path in (tmp_path / "runs").glob("c-*/events.jsonl")}
    shown = ostinato(tmp_path, *words, "--dry-run")
    assert "failed, out: failed with exit code 4" in shown.stdout
    assert shown.stdout.splitlines()[-2:] == ["rung 1: 2 runs up to epoch 1", "rung 2: 1 run to the end"]
    assert ostinato(tmp_path, *words).returncode == 0
    assert {path: path.read_bytes() for path in (tmp_path / "runs").glob("c-*/events.jsonl")} == before, "it is not tried again"


def test_a_sweep_of_which_no_run_is_left_ends_with_4(tmp_path: Path) -> None:
    settings = ("train.epochs=2", "train.non_finite=skip", "train.max_skipped=100000", "train.monitor=loss", "optimizer.lr=1e30")
    done = ostinato(tmp_path, "sweep", str(DIGITS), *settings, "--grid", "seed=0,1", "--halving", "--eta", "2", "--json")
    assert done.returncode == 4, done.stdout + done.stderr
    assert "no run is left" in done.stderr
    assert not any(row["winner"] for row in json.loads(done.stdout))


def test_the_sweep_has_a_report_of_its_own(whole: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, done = whole
    page = folder / "runs" / "_sweeps" / "digits" / "report.html"
    written = page.read_text(encoding="utf-8")
    table = json.loads(done.stdout)
    assert "Sweep digits: 4 runs" in written
    assert "validation loss by optimizer.lr" in written
    places = [written.index(f'<th scope="row"><a href="#run-{number}">{row["name"]}</a>') for number, row in enumerate(table, 1)]
    assert places == sorted(places), "the best one stands first"
    page.unlink()
    again = ostinato(folder, "report", "runs/_sweeps/digits")
    assert (again.returncode, again.stdout) == (0, "report: runs/_sweeps/digits/report.html\n")
    assert page.is_file()
    both = ostinato(folder, "report", "runs/_sweeps/digits", f"runs/{table[0]['name']}")
    assert both.returncode == 2
    assert "name it alone" in both.stderr
