"""Runs on a real cluster are seen, followed and stopped at every stage, with accounting and without, and across requeues."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launcher.slurm_query import ask, details
from launcher.status import Row, status
from launcher.stopping import resume, stop
from tests.support.jobs import DIGITS, LIMIT_S, ROOT, environment, events
from tests.support.slurm_cluster import Cluster, wait_until
from trainer.errors import BAD_CONFIG, DONE, RunFolderError
from trainer.prepare import prepare
from trainer.rundir import RunDir, append_jsonl, make_private

pytestmark = pytest.mark.timeout(600)  # on a busy machine each start takes its time

SETTINGS = ("train.epochs=400", "data.batch_size=48", "checkpoint.every_steps=10", "log.every_steps=1", "hardware.threads=1")
STAYS = "srun --ntasks=1 sleep 600"


def create(folder: Path, name: str) -> RunDir:
    """A run that has not begun."""
    settings = [*SETTINGS, f"run.root={folder / 'runs'}", f"run.name={name}"]
    return prepare(DIGITS, settings, world_size=2).run


def submit(cluster: Cluster, run: RunDir, script: str, *options: str, task: str = "") -> str:
    """Queue a script for a run, and write down what a submission writes down."""
    log = run.path.parent / f"{run.name}.out"
    job_id = cluster.sbatch(script, f"--output={log}", "--open-mode=append", "--requeue", *options) + task
    note(run, job_id, str(log))
    return job_id


def note(run: RunDir, job_id: str, log: str = "") -> None:
    make_private(run.slurm)
    append_jsonl(run.submissions, {"time": time.time(), "job_id": job_id, "nodes": 1, "partition": "main", "log": log})
    run.event("submitted", job_id=job_id)


def training(run: RunDir) -> str:
    """A script that trains, and goes back to the queue if it was interrupted and nobody has asked it to stop."""
    requeue = f"grep -q stop-requested {run.events} || scontrol requeue $SLURM_JOB_ID"
    train = f"srun --ntasks=1 {sys.executable} -m launcher train {run.config} --nproc-per-node 2"
    return f"cd {ROOT}; export PYTHONPATH={ROOT}; {train} || {{ code=$?; {requeue}; exit $code; }}"


def look(run: RunDir, capsys: pytest.CaptureFixture[str]) -> Row:
    """The run's line."""
    capsys.readouterr()
    assert status([str(run.path)], root="runs", as_json=True) == DONE
    (found,) = json.loads(capsys.readouterr().out)
    return Row(**found)


def wait_for_steps(run: RunDir, attempt: int) -> None:
    """Wait until an attempt has trained a little."""
    wait_until(f"steps of attempt {attempt}", lambda: f'"attempt": {attempt}' in _tail(run.metrics), LIMIT_S)


def _tail(path: Path) -> str:
    return path.read_text()[-400:] if path.exists() else ""


def test_a_job_that_waits_says_why_and_is_taken_from_the_queue(
    either_cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = create(tmp_path, "held")
    job_id = submit(either_cluster, run, STAYS, "--hold")
    found = look(run, capsys)
    assert (found.state, found.detail, found.job_id, found.partition) == ("waiting", "JobHeldUser", job_id, "main")
    with pytest.raises(RunFolderError, match=f"is waiting already .job {job_id} in Slurm"):
        resume(str(run.path))
    assert stop([str(run.path)]) == DONE
    assert f"held: taken from the queue (Slurm job {job_id})\nheld: stopped (before it began)" in capsys.readouterr().out
    assert either_cluster.job(job_id)["JobState"] == "CANCELLED"
    assert [event["job_id"] for event in events(run, "stop-requested")] == [job_id]
    found = look(run, capsys)
    assert (found.state, found.detail, found.job_id) == ("stopped", "before it began", None)
    assert stop([str(run.path)]) == DONE
    assert "held: does not run: stopped" in capsys.readouterr().out


def test_a_run_is_followed_through_a_requeue_and_stopped_for_good_with_a_checkpoint(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = create(tmp_path, "trained")
    job_id = submit(cluster, run, training(run), "--time=10")
    with open(tmp_path / "followed", "w") as out:
        command = [sys.executable, "-m", "launcher", "logs", str(run.path), "-f"]
        variables = environment(SLURM_CONF=cluster.env()["SLURM_CONF"])
        following = subprocess.Popen(command, env=variables, stdout=out, stderr=subprocess.DEVNULL)
    wait_for_steps(run, 0)
    found = look(run, capsys)
    assert (found.state, found.job_id, found.nodes, found.host) == ("running", job_id, "n1", "n1")
    assert found.left_s is not None
    assert 0 < found.left_s <= 600
    cluster.run("scontrol", "requeue", job_id)
    wait_until("the queue", lambda: look(run, capsys).state == "waiting")
    wait_for_steps(run, 1)
    found = look(run, capsys)
    assert (found.state, found.starts) == ("running", 2)
    job = details(job_id)
    assert job is not None
    assert job.restarts == 1
    assert following.poll() is None
    assert stop([str(run.path)]) == DONE
    step = events(run, "stopped")[-1]["step"]
    assert f"trained: stopped at step {step} with checkpoint step-{step:08d}" in capsys.readouterr().out
    assert not ask([job_id]).jobs[job_id].lives
    assert look(run, capsys).state == "stopped"
    assert following.wait(LIMIT_S) == DONE
    followed = (tmp_path / "followed").read_text()
    assert "training from the beginning" in followed
    assert "training from step-" in followed
    assert f"at step {step}, with a checkpoint" in followed


def test_a_job_that_goes_back_to_the_queue_while_it_is_stopped_does_not_start_again(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = create(tmp_path, "stubborn")
    job_id = submit(cluster, run, f"{STAYS}; scontrol requeue $SLURM_JOB_ID; sleep 60")
    cluster.wait_job(job_id, "RUNNING")
    wait_until("its step", lambda: f"{job_id}.0" in cluster.run("squeue", "--steps", "--noheader").stdout)
    assert stop([str(run.path)]) == DONE
    assert cluster.wait_job(job_id, "CANCELLED")["Restarts"] == "1"


def test_a_job_that_did_not_get_the_signal_is_asked_again(cluster: Cluster, tmp_path: Path) -> None:
    run = create(tmp_path, "deaf")
    deaf = "trap 'test -e heard && exit 0; touch heard' TERM; touch ready; while true; do sleep 0.1; done"
    job_id = submit(cluster, run, f'srun --ntasks=1 bash -c "{deaf}"', f"--chdir={tmp_path}")
    wait_until("a trap for the signal", (tmp_path / "ready").exists)
    assert stop([str(run.path)]) == DONE
    assert (tmp_path / "heard").exists()
    cluster.wait_job(job_id, "COMPLETED")


def test_each_task_of_an_array_is_a_run_of_its_own(cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [create(tmp_path, f"point-{number}") for number in range(3)]
    array = cluster.sbatch(STAYS, "--array=0-2%2", "--output=/dev/null")
    for number, run in enumerate(runs):
        note(run, f"{array}_{number}")
    cluster.wait_job(f"{array}_1", "RUNNING")
    wait_until("their steps", lambda: cluster.run("squeue", "--steps", "--noheader").stdout.count(".0 ") >= 2)
    assert [look(run, capsys).state for run in runs] == ["running", "running", "waiting"]
    assert look(runs[2], capsys).detail == "JobArrayTaskLimit"
    assert stop([str(runs[2].path), str(runs[0].path)]) == DONE
    assert look(runs[1], capsys).state == "running"
    assert look(runs[2], capsys).state == "stopped"


def test_a_job_that_its_cluster_has_ended_is_lost_and_says_how(
    either_cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = create(tmp_path, "ended")
    job_id = submit(either_cluster, run, "exit 3")
    either_cluster.wait_job(job_id, "FAILED")
    found = look(run, capsys)
    assert (found.state, found.detail) == ("lost", "Slurm: FAILED")


def test_what_the_queue_has_forgotten_accounting_knows_and_without_it_the_run_folder(
    forgetful_cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    failed, cancelled, stopped = (create(tmp_path, name) for name in ("failed", "cancelled", "stopped"))
    ids = [
        submit(forgetful_cluster, failed, "exit 3"),
        submit(forgetful_cluster, cancelled, STAYS),
        submit(forgetful_cluster, stopped, STAYS, "--hold"),
    ]
    forgetful_cluster.run("scancel", ids[1])
    assert stop([str(stopped.path)]) == DONE
    wait_until("an empty memory", lambda: not forgetful_cluster.run("squeue", "--noheader", "--states=all").stdout.strip(), 120)
    answer = ask([*ids, "9999999"])
    accounting = forgetful_cluster.settings.accounting
    assert (set(answer.jobs), answer.asked) == (set(ids) if accounting else set(), True)
    found = [look(run, capsys) for run in (failed, cancelled, stopped)]
    assert [(row.state, row.detail) for row in found] == [
        ("lost", "Slurm: FAILED" if accounting else f"Slurm does not know job {ids[0]} any more"),
        ("stopped", "before it began") if accounting else ("lost", f"Slurm does not know job {ids[1]} any more"),
        ("stopped", "before it began"),
    ]
    for run in (failed, cancelled, stopped):
        assert stop([str(run.path)]) == DONE
        assert "does not run" in capsys.readouterr().out


def test_a_controller_that_is_gone_is_one_line_and_the_runs_are_shown(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    queued, here = create(tmp_path, "queued"), create(tmp_path, "here")
    submit(cluster, queued, STAYS, "--hold")
    capsys.readouterr()
    cluster.stop_controller()
    assert status([], root=str(tmp_path / "runs")) == DONE
    out, err = capsys.readouterr()
    _, first, second = out.splitlines()
    assert first.split()[:2] == [here.name, "created"]
    assert second.startswith("queued  waiting (Slurm does not answer)")
    assert len(err.splitlines()) == 1
    assert "Slurm does not answer" in err
    assert stop([str(queued.path)]) == BAD_CONFIG
    assert "it was not stopped, try again" in capsys.readouterr().err
    assert not events(queued, "stop-requested")
