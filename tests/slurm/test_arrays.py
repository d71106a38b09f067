"""A sweep is one job array: its runs are seen, followed and stopped one by one at every stage, and what is missing is queued again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from launcher.logs import logs
from tests.support.jobs import LIMIT_S, events, hurry, ostinato, rows, weights
from tests.support.slurm_cluster import Cluster, wait_until
from tests.support.submitted import call, write_config
from trainer.errors import RunFolderError
from trainer.rundir import RunDir, read_jsonl

GRID = ("--grid", "optimizer.lr=0.05,0.02", "--grid", "seed=1,2,3")
# The first two take their time until they are told to hurry: all that is done to them is done within that time.
SLOWLY = "data.train={target: 'tests.support.noisy:SlowImages', seconds: 0.15, until: hurry}"
SETTINGS = ("train.epochs=3", "train.virtual_ranks=2", SLOWLY)
SWEEP = ("sweep", "c.yaml", *SETTINGS, *GRID)
ON_SLURM = ("--slurm", "--nproc-per-node", "2", "--parallel", "2")
NAMES = [f"c-lr{lr}-seed{seed}" for lr in ("0.05", "0.02") for seed in (1, 2, 3)]
ENDED = {"CANCELLED", "COMPLETED", "FAILED", "TIMEOUT"}


def status(cluster: Cluster, folder: Path) -> dict[str, dict[str, Any]]:
    """How the runs stand, by name."""
    done = call(cluster, folder, "status", "--json")
    assert done.returncode == 0, done.stderr
    return {row["name"]: row for row in json.loads(done.stdout)}


def states(cluster: Cluster, folder: Path) -> Counter[str]:
    return Counter(row["state"] for row in status(cluster, folder).values())


def running(cluster: Cluster, job: str) -> list[str]:
    """The array's tasks that have nodes, as Slurm says."""
    return cluster.run("squeue", "--noheader", "--array", "--states=RUNNING", f"--jobs={job}", "--format=%i").stdout.split()


@contextmanager
def watched(cluster: Cluster, job: str) -> Iterator[list[int]]:
    """How many of the array's tasks have nodes, looked at again and again meanwhile."""
    counts, over = list[int](), Event()

    def look() -> None:
        while not over.wait(0.3):
            counts.append(len(running(cluster, job)))

    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(look)
        try:
            yield counts
        finally:
            over.set()
    looking.result()


def log(run: RunDir, capsys: pytest.CaptureFixture[str], attempt: int | None = None) -> str:
    """What ``ostinato logs`` prints of a run."""
    capsys.readouterr()
    logs(str(run.path), attempt=attempt)
    return capsys.readouterr().out


def array_of(run: RunDir) -> tuple[str, str]:
    job, _, task = str(list(read_jsonl(run.submissions))[-1]["job_id"]).partition("_")
    return job, task


@pytest.mark.timeout(600)
def test_a_sweep_of_six_runs_is_right_at_every_stage(either_cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cluster = either_cluster
    write_config(tmp_path)
    runs = {name: RunDir(tmp_path / "runs" / name) for name in NAMES}
    blocker = cluster.sbatch("sleep 600", "--nodes=2", "--exclusive", "--output=/dev/null")
    cluster.wait_job(blocker, "RUNNING")
    done = call(cluster, tmp_path, *SWEEP, *ON_SLURM)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("waiting") == 6

    # All wait: one is taken out of the queue, and the others know nothing of it.
    job = array_of(runs[NAMES[0]])[0]
    assert [array_of(run) for run in runs.values()] == [(job, str(number)) for number in range(6)]
    assert states(cluster, tmp_path) == {"waiting": 6}
    stopped = call(cluster, tmp_path, "stop", f"runs/{NAMES[5]}")
    assert stopped.returncode == 0, stopped.stderr
    assert states(cluster, tmp_path) == {"waiting": 5, "stopped": 1}
    for name in (NAMES[0], NAMES[5]):
        with pytest.raises(RunFolderError, match="no log yet"):
            logs(str(runs[name].path))

    with watched(cluster, job) as at_once:
        # Two run, and never more; each has its own log.
        cluster.run("scancel", blocker)
        wait_until("two with steps", lambda: sum(run.metrics.exists() for run in runs.values()) == 2, LIMIT_S)
        assert len(running(cluster, job)) == 2
        seen = status(cluster, tmp_path)
        assert {seen[name]["state"] for name in NAMES[:2]} == {"running"}
        assert seen[NAMES[1]]["job_id"] == f"{job}_1"
        assert seen[NAMES[2]]["detail"] == "JobArrayTaskLimit"
        assert "training from the beginning" in call(cluster, tmp_path, "logs", f"runs/{NAMES[1]}").stdout

        # One of them is stopped with a checkpoint, the other one goes back to the queue and comes again by itself.
        assert call(cluster, tmp_path, "stop", f"runs/{NAMES[0]}").returncode == 0
        assert status(cluster, tmp_path)[NAMES[0]]["state"] == "stopped"
        assert events(runs[NAMES[0]], "stopped")
        assert ", with a checkpoint" in log(runs[NAMES[0]], capsys)
        cluster.run("scancel", "--signal=USR2", f"{job}_1.0")
        wait_until("a second turn", lambda: bool(events(runs[NAMES[1]], "requeued")), LIMIT_S)
        assert ", with a checkpoint" in log(runs[NAMES[1]], capsys, attempt=0)
        hurry(tmp_path)
        again = call(cluster, tmp_path, *SWEEP, *ON_SLURM, "--dry-run")
        assert Counter(line.rpartition(": ")[2] for line in again.stdout.splitlines() if line.startswith("runs/"))["stopped"] == 2
        assert "#SBATCH --array=0-1%2" in again.stdout

        # The rest ends; what came again by itself has gone on.
        wait_until("four ends", lambda: states(cluster, tmp_path) == {"finished": 4, "stopped": 2}, 3 * LIMIT_S)
    assert max(at_once) == 2
    assert "training from step-" in log(runs[NAMES[1]], capsys)
    assert "epoch 3/3" in log(runs[NAMES[2]], capsys)

    # The same command queues exactly the two that were stopped, and those end too.
    done = call(cluster, tmp_path, *SWEEP, *ON_SLURM, "--wait", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 6 runs queued" in done.stderr
    table = json.loads(done.stdout)
    assert [row["state"] for row in table] == ["finished"] * 6
    assert sum(row["winner"] for row in table) == 1
    assert array_of(runs[NAMES[5]])[0] != job
    assert array_of(runs[NAMES[1]])[0] == job

    # A run that was requeued has the bits of one that was not, and nothing is left to do.
    home = ostinato(tmp_path, "train", "c.yaml", *SETTINGS, "optimizer.lr=0.05", "seed=2", "run.name=home", "--nproc-per-node", "2")
    assert home.returncode == 0, home.stderr
    whole = RunDir(tmp_path / "runs" / "home")
    assert (weights(runs[NAMES[1]]), rows(runs[NAMES[1]])) == (weights(whole), rows(whole))
    done = call(cluster, tmp_path, *SWEEP, *ON_SLURM)
    assert done.returncode == 0
    assert "nothing is missing" in done.stderr


def test_one_wrong_point_keeps_all_from_the_queue(cluster: Cluster, tmp_path: Path) -> None:
    write_config(tmp_path)
    for wrong, said in (("train.epochs=1,0", "train.epochs=0: must be"), ("model.target=mlp,mpl", "model.target=mpl: ")):
        done = call(cluster, tmp_path, "sweep", "c.yaml", "--slurm", "--grid", wrong)
        assert done.returncode == 2
        assert said in done.stderr
        assert not (tmp_path / "runs").exists()
    assert not cluster.run("squeue", "--noheader").stdout


@pytest.mark.timeout(600)
def test_each_rung_of_a_halving_is_an_array_and_the_next_one_follows_by_the_same_command(cluster: Cluster, tmp_path: Path) -> None:
    write_config(tmp_path, seconds=0.0)
    settings = ("train.epochs=4", "train.virtual_ranks=1")
    words = ("sweep", "c.yaml", *settings, "--grid", "optimizer.lr=0.05,0.02", "--grid", "seed=1,2", "--halving", "--eta", "2")
    words = (*words, "--slurm", "--nproc-per-node", "1")
    done = call(cluster, tmp_path, *words)
    assert done.returncode == 0, done.stderr
    assert "4 of 4 runs queued as job" in done.stderr
    assert "when they have ended, the same command queues rung 2 of 3" in done.stderr
    runs = [RunDir(tmp_path / "runs" / f"c-lr{lr}-seed{seed}") for lr in ("0.05", "0.02") for seed in (1, 2)]
    wait_until("four pauses", lambda: states(cluster, tmp_path) == {"stopped": 4}, 2 * LIMIT_S)
    first = array_of(runs[0])[0]

    # The next rungs follow by themselves, as the command waits now; a job that has paused is not queued again.
    done = call(cluster, tmp_path, *words, "--wait", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "rung 2 of 3, up to epoch 2, 2 runs" in done.stderr
    table = json.loads(done.stdout)
    assert sorted(row["epoch"] for row in table) == [1, 1, 2, 4]
    assert not any(events(run, "requeued") for run in runs)
    (winner,) = [run for run in runs if run.finished()]
    assert len({str(row["job_id"]).partition("_")[0] for row in read_jsonl(winner.submissions)}) == 3
    assert sum(array_of(run)[0] == first for run in runs) == 2
    assert (tmp_path / "runs" / "_sweeps" / "c" / "report.html").is_file()
    values = next(row["values"] for row in table if row["name"] == winner.name)
    said = [f"{key}={value}" for key, value in values.items()]
    home = ostinato(tmp_path, "train", "c.yaml", *settings, *said, "run.name=home", "--nproc-per-node", "1")
    assert home.returncode == 0, home.stderr
    whole = RunDir(tmp_path / "runs" / "home")
    assert (weights(winner), rows(winner)) == (weights(whole), rows(whole))
