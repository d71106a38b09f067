"""Runs on a real cluster are seen, followed and stopped at every stage, with accounting and without, and across requeues."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launcher.slurm import follow_to_its_end
from launcher.slurm_query import ask, details
from launcher.status import Row, status
from launcher.stopping import resume, stop
from tests.support.jobs import DIGITS, LIMIT_S, ROOT, environment, events
from tests.support.slurm_cluster import Cluster, wait_until
from trainer.errors import BAD_CONFIG, DONE, STOPPED, RunFolderError
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
    assert follow_to_its_end(run) == STOPPED  # which is submit --wait
    assert capsys.readouterr() == ("", "run held: stopped (before it began)\n")


def test_a_job_of_the_same_number_that_is_not_the_runs_own_is_neither_shown_nor_stopped(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = create(tmp_path, "elsewhere")
    script = tmp_path / "another.sh"
    script.write_text(f"#!/bin/sh\n{STAYS}\n")
    job_id = cluster.run("sbatch", "--parsable", "--hold", "--output=/dev/null", str(script)).stdout.strip()
    note(run, job_id, str(run.slurm / job_id / f"{job_id}_0_log.out"))  # as another cluster's, which counts from the beginning too
    found = look(run, capsys)
    assert (found.state, found.detail, found.job_id) == ("lost", f"Slurm's job {job_id} is another one", None)
    assert stop([str(run.path)]) == DONE
    assert "elsewhere: does not run: lost" in capsys.readouterr().out
    assert cluster.job(job_id)["JobState"] == "PENDING"


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

    # A task that was requeued is stopped like any other, while it waits and when it runs again.
    cluster.run("scontrol", "requeue", f"{array}_1")
    wait_until("the queue", lambda: look(runs[1], capsys).state == "waiting")
    assert stop([str(runs[1].path)]) == DONE
    assert "point-1: taken from the queue" in capsys.readouterr().out
    assert cluster.job(f"{array}_1")["JobState"] == "CANCELLED"
    assert look(runs[1], capsys).state == "stopped"


def test_a_task_that_runs_again_after_a_requeue_is_stopped(cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = create(tmp_path, "again")
    task = cluster.sbatch(STAYS, "--array=3", "--output=/dev/null") + "_3"
    note(run, task)
    cluster.wait_job(task, "RUNNING")
    cluster.run("scontrol", "requeue", task)
    wait_until("its second turn", lambda: (job := cluster.job(task))["Restarts"] == "1" and job["JobState"] == "RUNNING")
    wait_until("its step", lambda: ".0 " in cluster.run("squeue", "--steps", "--noheader").stdout)
    assert look(run, capsys).job_id == task
    assert stop([str(run.path)]) == DONE
    assert f"again: asked to stop (Slurm job {task})" in capsys.readouterr().out
    assert look(run, capsys).state == "stopped"


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
    runs = [create(tmp_path, name) for name in ("failed", "cancelled", "stopped", "task", "held-task", "requeued")]
    failed, cancelled, stopped, task, held_task, requeued = runs
    ids = [
        submit(forgetful_cluster, failed, "exit 3"),
        submit(forgetful_cluster, cancelled, STAYS),
        submit(forgetful_cluster, stopped, STAYS, "--hold"),
        submit(forgetful_cluster, task, "exit 3", "--array=0-1", task="_1"),
        submit(forgetful_cluster, held_task, STAYS, "--array=0-1", "--hold", task="_1"),
        submit(forgetful_cluster, requeued, f'[ "$SLURM_RESTART_COUNT" = 1 ] && exit 3; {STAYS}'),
    ]
    forgetful_cluster.run("scancel", ids[1], ids[4].partition("_")[0])
    assert stop([str(stopped.path)]) == DONE
    forgetful_cluster.wait_job(ids[5], "RUNNING")
    forgetful_cluster.run("scontrol", "requeue", ids[5])
    wait_until("an empty memory", lambda: not forgetful_cluster.run("squeue", "--noheader", "--states=all").stdout.strip(), 120)
    answer = ask([*ids, "9999999"])
    accounting = forgetful_cluster.settings.accounting
    assert (set(answer.jobs), answer.asked) == (set(ids) if accounting else set(), True)
    unknown = [("lost", f"Slurm does not know job {job_id} any more") for job_id in ids]
    ended, early = ("lost", "Slurm: FAILED"), ("stopped", "before it began")
    found = [look(run, capsys) for run in runs]
    assert [(row.state, row.detail) for row in found] == (
        [ended, early, early, ended, early, ended] if accounting else [*unknown[:2], early, *unknown[3:]]
    )
    for run in runs:
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
