"""Whatever Slurm does to a job of two nodes: it goes on in the same run folder to the same bits, or stops so that it can go on."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.jobs import LIMIT_S, events, hurry, slow_images
from tests.support.slurm_cluster import Cluster, wait_until
from tests.support.submitted import (
    TWO_NODES,
    call,
    finished,
    launcher_on,
    nothing_is_lost,
    output,
    same,
    submit,
    turns,
    wait_for,
    whole_run,
    worker_on,
    write_config,
)
from trainer.rundir import RunDir, read_jsonl

pytestmark = pytest.mark.timeout(600)  # on a busy machine each start takes its time


@pytest.fixture
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    return whole_run(tmp_path_factory.getbasetemp())


def preempt(cluster: Cluster) -> str:
    return cluster.sbatch("sleep 1", "--partition=high", "--nodes=2", "--exclusive", "--output=/dev/null")


def test_requests_and_requeues_of_every_kind_in_one_job(cluster: Cluster, tmp_path: Path, whole: RunDir) -> None:
    write_config(tmp_path, seconds=0.02)
    run, job = submit(cluster, tmp_path, *TWO_NODES, "--partition", "low", "checkpoint.every_steps=1000")
    interruptions: list[Callable[[], object]] = [
        lambda: cluster.run("scancel", "--signal=USR2", job),
        lambda: cluster.run("scancel", "--signal=TERM", job),
        lambda: cluster.run("scontrol", "requeue", job),
        lambda: preempt(cluster),
    ]
    for attempt, interrupt in enumerate(interruptions):
        wait_for(cluster, run, job, step=3 + 8 * attempt, attempt=attempt)
        interrupt()
    finished(cluster, run, job)
    assert same(run, whole)
    assert nothing_is_lost(run)
    assert turns(run) == ["SIGUSR2", "SIGTERM", "by Slurm", "by Slurm"]
    assert len(events(run, "stopped")) == 4
    assert cluster.job(job)["Restarts"] == "4"


@pytest.mark.parametrize(("which", "signal"), [("cluster", "SIGUSR2"), ("term_only_cluster", "SIGTERM")])
def test_a_preemption_with_time_to_leave(request: pytest.FixtureRequest, which: str, signal: str, tmp_path: Path, whole: RunDir) -> None:
    cluster: Cluster = request.getfixturevalue(which)
    write_config(tmp_path)
    run, job = submit(cluster, tmp_path, *TWO_NODES, "--partition", "low_grace", "checkpoint.every_steps=1000")
    wait_for(cluster, run, job, step=10)
    preempt(cluster)
    finished(cluster, run, job)
    assert same(run, whole)
    assert nothing_is_lost(run)
    assert turns(run) == [signal]


def test_the_time_limit_also_where_a_save_takes_longer_than_the_grace(cluster: Cluster, tmp_path: Path, whole: RunDir) -> None:
    write_config(tmp_path, seconds=0.2, later=0.05, model="tests.support.noisy:OnASlowDisk", more=", seconds: 0.5")
    settings = ["checkpoint.every_steps=15", "supervision.grace_s=2"]
    run, job = submit(cluster, tmp_path, *TWO_NODES, "--partition", "short", "--time", "1", *settings)
    finished(cluster, run, job)
    assert same(run, whole)
    assert nothing_is_lost(run)
    assert set(turns(run)) == {"time limit"}
    began = len(events(run, "started")) + len(events(run, "resumed"))  # a busy machine may spend a turn on its start
    assert len(events(run, "stopped")) == began - 1 >= 1


def test_crashes_of_one_node_and_then_of_the_one_with_the_batch_script(cluster: Cluster, tmp_path: Path, whole: RunDir) -> None:
    write_config(tmp_path)
    run, job = submit(cluster, tmp_path, *TWO_NODES)
    wait_for(cluster, run, job, step=9)
    cluster.kill_node("n2")
    wait_until("a place in the queue", lambda: cluster.job(job)["JobState"] == "PENDING", LIMIT_S)
    cluster.start_node("n2")
    wait_for(cluster, run, job, step=20, attempt=1)
    cluster.kill_node("n1", noticed=True)
    wait_until("a place in the queue", lambda: cluster.job(job)["JobState"] == "PENDING", LIMIT_S)
    cluster.start_node("n1")
    finished(cluster, run, job)
    assert same(run, whole)
    assert nothing_is_lost(run)
    assert len(turns(run)) == 2


def test_a_run_that_is_stopped_or_cancelled_is_not_queued_again_and_goes_on_when_it_is_submitted(
    cluster: Cluster, tmp_path: Path, whole: RunDir
) -> None:
    write_config(tmp_path)
    settings = [*TWO_NODES, "checkpoint.every_steps=1000", slow_images(free=30)]
    run, job = submit(cluster, tmp_path, *settings)
    wait_for(cluster, run, job, step=5)
    assert call(cluster, tmp_path, "stop", "runs/c").returncode == 0
    ended = cluster.wait_job(job, "FAILED")
    assert (ended["ExitCode"], ended["Restarts"]) == ("75:0", "0")
    run, job = submit(cluster, tmp_path, *settings)
    wait_for(cluster, run, job, step=15, attempt=1)
    cluster.run("scancel", job)
    assert cluster.wait_job(job, "CANCELLED")["Restarts"] == "0"
    wait_until("an end on both nodes", lambda: not cluster.run("squeue", "--noheader").stdout)
    assert cluster.job(job)["JobState"] == "CANCELLED"
    hurry(tmp_path)
    done = call(cluster, tmp_path, "submit", "c.yaml", *settings, "--wait")
    assert done.returncode == 0, done.stderr
    assert turns(run) == []
    assert len(events(run, "stopped")) == 2
    assert nothing_is_lost(run)
    assert same(run, whole)


def test_faults_on_the_other_node_are_mended_within_the_job_and_a_launcher_that_is_gone_in_its_next_turn(
    cluster: Cluster, tmp_path: Path, whole: RunDir
) -> None:
    write_config(tmp_path, seconds=0.05)
    run, job = submit(cluster, tmp_path, *TWO_NODES, "supervision.stuck_after_s=10")
    wait_for(cluster, run, job, step=6)
    worker_on("n2", run, 3).kill()
    wait_for(cluster, run, job, step=14, attempt=1)
    worker_on("n2", run, 2).suspend()
    wait_for(cluster, run, job, step=24, attempt=2)
    assert turns(run) == []
    assert [event["exit_code"] for event in events(run, "restarted")] == [5, 6]
    told = output(run)
    assert "rank 3 was killed by SIGKILL" in told
    assert "rank 2 is halted" in told
    killed = time.monotonic()
    launcher_on("n2").kill()
    wait_until("its next turn", lambda: len(turns(run)) == 1, LIMIT_S)
    assert time.monotonic() - killed < 90
    assert "node 1 (n2) does not answer any more" in output(run)
    finished(cluster, run, job)
    assert same(run, whole)
    assert nothing_is_lost(run)
    assert cluster.job(job)["Restarts"] == "1"


def test_the_first_node_without_its_launcher_is_noticed_by_the_other_which_queues_the_job_again(
    cluster: Cluster, tmp_path: Path, whole: RunDir
) -> None:
    write_config(tmp_path)
    run, job = submit(cluster, tmp_path, *TWO_NODES)
    wait_for(cluster, run, job, step=9)
    launcher_on("n1").kill()
    finished(cluster, run, job)
    assert same(run, whole)
    assert nothing_is_lost(run)
    assert turns(run) == ["lost"]


def test_a_mistake_in_the_users_code_ends_the_job_with_its_cause_said_once(cluster: Cluster, tmp_path: Path) -> None:
    write_config(tmp_path, model="tests.support.faulty:FaultyNet", more=", fault: exception, rank: 2")
    done = call(cluster, tmp_path, "submit", "c.yaml", *TWO_NODES, "--wait")
    assert done.returncode == 4, done.stderr
    run = RunDir(tmp_path / "runs" / "c")
    job = str(list(read_jsonl(run.submissions))[-1]["job_id"])
    ended = cluster.wait_job(job, ["FAILED"])
    assert (ended["ExitCode"], ended["Restarts"]) == ("4:0", "0")
    assert output(run).count("the seventh layer does not fit") == 1
    assert "rank 2: ValueError: the seventh layer does not fit" in output(run)


def test_turns_that_bring_no_checkpoint_come_to_an_end_with_one_line(cluster: Cluster, tmp_path: Path) -> None:
    write_config(tmp_path, seconds=5)  # no step is done within the time that it is given to stop
    run, job = submit(cluster, tmp_path, *TWO_NODES, "supervision.max_restarts=1", "supervision.grace_s=2")
    for turn in (1, 2):
        wait_until("training", lambda turn=turn: output(run).count("training from the beginning") == turn, LIMIT_S)  # type: ignore[misc]
        cluster.run("scancel", "--signal=USR2", job)
    ended = cluster.wait_job(job, ["FAILED"])
    assert (ended["ExitCode"], ended["Restarts"]) == ("75:0", "1")
    assert output(run).count("not queued again: 2 turns in a row brought no new checkpoint") == 1
