"""A sweep on this machine: a bounded number at a time; killed in the middle and typed again, it finishes exactly what is missing."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from tests.support.jobs import DIGITS, LIMIT_S, events, ostinato, rows, start, weights
from tests.support.slurm_cluster import wait_until
from tests.support.submitted import write_config
from trainer.rundir import RunDir, read_json

SETTINGS = ("train.epochs=5", "data.batch_size=48", "checkpoint.every_steps=5", "log.every_steps=1", "hardware.threads=1", "data.test=null")
SWEEP = ("sweep", str(DIGITS), *SETTINGS, "--grid", "optimizer.lr=0.01,0.1", "--grid", "seed=0,1")
NAMES = [f"digits-lr{lr}-seed{seed}" for lr in ("0.01", "0.1") for seed in (0, 1)]


def finished(runs: list[RunDir]) -> list[str]:
    return [run.name for run in runs if run.finished()]


def test_a_sweep_that_is_killed_finishes_exactly_the_missing_runs_when_it_is_typed_again(tmp_path: Path) -> None:
    runs = [RunDir(tmp_path / "runs" / name) for name in NAMES]
    first = start(tmp_path, *SWEEP)
    wait_until("one run, and steps of the next", lambda: finished(runs) == NAMES[:1] and runs[1].metrics.exists(), LIMIT_S)
    first.send_signal(signal.SIGKILL)
    first.communicate(timeout=LIMIT_S)
    assert not runs[2].exists()
    first_end = runs[0].events.read_bytes(), runs[0].events.stat().st_mtime_ns
    done = ostinato(tmp_path, *SWEEP, "--json")
    assert done.returncode == 0, done.stderr
    assert finished(runs) == NAMES
    assert [len(events(run, "started")) for run in runs] == [1, 1, 1, 1]
    assert (runs[0].events.read_bytes(), runs[0].events.stat().st_mtime_ns) == first_end, "it was left alone"
    assert ostinato(tmp_path, "train", str(DIGITS), *SETTINGS, "optimizer.lr=0.01", "seed=1", "run.name=alone").returncode == 0
    alone = RunDir(tmp_path / "runs" / "alone")
    assert (weights(runs[1]), rows(runs[1])) == (weights(alone), rows(alone)), "the one that the kill met"
    table = json.loads(done.stdout)
    assert sorted((row["name"], row["values"]["seed"], row["state"]) for row in table) == [(name, name[-1], "finished") for name in NAMES]
    assert [row["value"] for row in table] == sorted(row["best"][row["metric"]] for row in table), "the best one first"
    assert [row["winner"] for row in table] == [True, False, False, False]
    assert table[0]["values"]["optimizer.lr"] == "0.1"
    folder = tmp_path / "runs" / "_sweeps" / "digits"
    assert read_json(folder / "results.json") == table
    assert [line.split(",")[0] for line in (folder / "results.csv").read_text().splitlines()] == ["run", *(row["name"] for row in table)]
    assert len({weights(run) for run in runs}) == 4
    before = [run.events.read_bytes() for run in runs]
    again = ostinato(tmp_path, *SWEEP)
    assert (again.returncode, again.stdout.count("finished")) == (0, 4)
    assert [run.events.read_bytes() for run in runs] == before


def test_a_stop_reaches_all_that_run(tmp_path: Path) -> None:
    slow = (*SETTINGS, "train.epochs=500")
    process = start(tmp_path, "sweep", str(DIGITS), *slow, "--grid", "seed=0,1,2", "--parallel", "2")
    runs = [RunDir(tmp_path / "runs" / f"digits-seed{seed}") for seed in (0, 1, 2)]
    wait_until("steps of two", lambda: runs[0].metrics.exists() and runs[1].metrics.exists(), LIMIT_S)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 75, err
    assert [len(events(run, "stopped")) for run in runs[:2]] == [1, 1]
    assert not runs[2].exists()
    assert "the same command goes on" in err
    assert sorted(line.split()[2] for line in out.splitlines()[1:]) == ["missing", "stopped", "stopped"]


def test_a_run_that_fails_keeps_none_from_running(tmp_path: Path) -> None:
    write_config(tmp_path, seconds=0.0, model="tests.support.faulty:FaultyNet", more=", fault: '', rank: 0")
    done = ostinato(tmp_path, "sweep", "c.yaml", "train.epochs=1", "--grid", "model.fault=exception,''", "--json")
    assert done.returncode == 4, done.stderr
    assert [row["state"] for row in json.loads(done.stdout)] == ["finished", "failed"]
    assert "failed with exit code 4; see runs/_sweeps/c/logs/" in done.stderr


def test_a_sweep_keeps_its_results_when_it_grows_or_shrinks_and_another_one_needs_a_name(tmp_path: Path) -> None:
    write_config(tmp_path, seconds=0.0)
    words = ("sweep", "c.yaml", "train.epochs=1", "--json", "--grid")
    assert ostinato(tmp_path, *words, "seed=1,2", "--parallel", "2").returncode == 0
    done = ostinato(tmp_path, *words, "seed=2")
    assert sorted(row["name"] for row in json.loads(done.stdout)) == ["c-seed1", "c-seed2"]
    kept = (tmp_path / "runs" / "_sweeps" / "c" / "results.json").read_bytes()
    done = ostinato(tmp_path, *words, "optimizer.lr=0.1,0.2")
    assert done.returncode == 2
    assert done.stderr.endswith("runs/_sweeps/c has the results of one over seed; give this one a --name of its own\n")
    assert (tmp_path / "runs" / "_sweeps" / "c" / "results.json").read_bytes() == kept

    # Other settings under the same name: the results of the first would stand there for those of the second.
    before = {path: path.read_bytes() for path in (tmp_path / "runs").rglob("*") if path.is_file()}
    for more in ((), ("--halving", "--eta", "2"), ("--dry-run",)):
        done = ostinato(tmp_path, "sweep", "c.yaml", "train.epochs=30", "--grid", "seed=1,2", *more)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == (
            "ostinato: runs/c-seed1: the run was made with other settings (train.epochs: 1 -> 30), and 1 more of this sweep; "
            "give this sweep a --name of its own\n"
        )
    assert {path: path.read_bytes() for path in (tmp_path / "runs").rglob("*") if path.is_file()} == before


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "here").write_text("")
    done = ostinato(tmp_path, "sweep", str(DIGITS), "run.root=here", "--grid", "seed=1,2")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert "cannot be written" in done.stderr


def test_a_dry_run_lists_the_runs_and_creates_nothing(tmp_path: Path) -> None:
    done = ostinato(tmp_path, *SWEEP, "--dry-run")
    assert (done.returncode, done.stdout.splitlines()) == (0, [f"runs/{name}: missing" for name in NAMES])
    assert not list(tmp_path.iterdir())


def test_what_is_no_sweep_is_refused_in_one_line(tmp_path: Path) -> None:
    for arguments, said in (
        ((), "over what? say --grid"),
        (("--grid", "seed=1", "seed=2"), "seed: stands there twice, alone and after --grid"),
        (("--grid", "seed=1,x"), "seed=x: must be a whole number"),
        (("--grid", "seed=1", "--nnodes", "2"), "goes with --slurm or --profile"),
        (("--grid", "seed=1", "--name", "a b"), "run.name"),
        (("--grid", "seed=int(0,9)"), "say --random N"),
        (("--grid", "seed=0,1", "--halving"), "2 runs of 15 epochs cannot be halved by 3"),
        (("--grid", "train.epochs=8,9,10", "--halving"), "after the same epochs by the same metric"),
        (("--grid", "seed=0,1,2", "--halving", "run.pause_after_epoch=1"), "leave run.pause_after_epoch out"),
        (("--grid", "seed=0,1,2", "--halving", "train.max_steps=9"), "leave train.max_steps out"),
        (("--grid", "seed=0,1,2", "--halving", "data.valid=null", "train.monitor=auto"), "set data.valid or data.valid_fraction"),
        (("--grid", "seed=1", "--nproc-per-node", "x"), "--nproc-per-node=x: must be auto or a whole number"),
    ):
        done = ostinato(tmp_path, "sweep", str(DIGITS), *arguments)
        assert done.returncode == 2, done.stdout
        (line,) = done.stderr.splitlines()
        assert said in line
        assert not list(tmp_path.iterdir())
