"""Requests that can lead nowhere are refused before the queue: a line for each problem, exit code 2, no run folder and no job."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from launcher.cli import answer
from launcher.profile import minutes_of
from tests.support.jobs import DIGITS
from tests.support.slurm_cluster import Cluster
from trainer.errors import BAD_CONFIG
from trainer.locks import RunLock
from trainer.prepare import prepare


@dataclass(frozen=True)
class Wrong:
    """A request, and what is said to it.

    Args:
        name: of the test.
        said: the beginning of the line; HERE: the folder of the command.
        arguments: of ``ostinato submit``.
        profile: the text of a profile.
        cluster: fields of the partition main that are changed meanwhile.
    """

    name: str
    said: str
    arguments: tuple[str, ...] = ()
    profile: str | None = None
    cluster: str = ""


WRONG = [
    Wrong("no such profile", "command line: --profile=nope: no such profile; slurm/ has mine", ("--profile", "nope")),
    Wrong("a key that is none", "slurm/mine.yaml:2: tme: unknown key 'tme' (did you mean 'time'?)", profile="nodes: 1\ntme: 10\n"),
    Wrong("a value that is none", "slurm/mine.yaml:1: nodes: must be a whole number of at least 1", profile="nodes: two\n"),
    Wrong("a word with a space", "slurm/mine.yaml:1: partition: must be one word", profile="partition: main or high\n"),
    Wrong("an option of sbatch that is ours", "slurm/mine.yaml:1: sbatch: ntasks: follows from the profile's workers_per_node; set that",
          profile="sbatch: {ntasks: 4}\n"),
    Wrong("an option of sbatch that is none", "command line: submit: Slurm refuses it: unrecognized option '--foo=1'",
          profile="sbatch: {foo: 1}\n"),
    Wrong("no such partition", "command line: partition: this cluster has no nope; it has main, low", ("--partition", "nope")),
    Wrong("a closed partition", "command line: partition: main is closed (DRAIN); ask when it opens", cluster="state=drain"),
    Wrong("more nodes than there are", "command line: nodes: 3 asked for, partition main has 2", ("--nnodes", "3")),
    Wrong("more nodes than a job gets", "command line: nodes: 2 asked for, partition main gives at most 1 to a job", ("--nnodes", "2"),
          cluster="maxnodes=1"),
    Wrong("more processors", "command line: cpus_per_worker: 12 processors on a node asked for (3 workers with 4 each), partition main",
          ("--nproc-per-node", "3", "--cpus-per-worker", "4")),
    Wrong("more GPUs", "command line: gpus_per_node: 4 GPUs on a node asked for, partition main has 2", ("--gpus-per-node", "4")),
    Wrong("GPUs of another kind", "slurm/mine.yaml:1: gpu_type=a100: say how many", profile="gpu_type: a100\n"),
    Wrong("more GPUs of a kind", "command line: gpus_per_node: 1 GPUs of type a100 on a node asked for, partition main has 0",
          profile="gpu_type: a100\ngpus_per_node: 1\n"),
    Wrong("more memory", "command line: memory_gb: 100 GB of memory on each of 2 nodes asked for, partition main has 62.5",
          ("--mem-gb", "100", "--nnodes", "2")),
    Wrong("more time", "command line: time: 10 minutes asked for, partition short allows 1; a run that needs longer goes on by itself",
          ("--partition", "short", "--time", "10")),
    Wrong("a time that is none", "command line: --time=1h30: must be minutes, HH:MM:SS or D-HH:MM:SS", ("--time", "1h30")),
    Wrong("no time to train in", "command line: time: 1 minutes leave nothing to train in", ("--time", "1")),
    Wrong("a QOS that may not", "command line: qos: urgent may not use partition main, which is for normal", ("--qos", "urgent"),
          cluster="allowqos=normal"),
    Wrong("a constraint that nothing has", "command line: sbatch.constraint: 0 nodes of partition main have avx512, 1 asked for",
          profile="sbatch: {constraint: avx512}\n"),
    Wrong("a constraint that only Slurm can judge", "command line: submit: Slurm refuses it: Invalid feature specification",
          profile="sbatch: {constraint: avx512&infiniband}\n"),
    Wrong("a reservation that is none", "command line: submit: Slurm refuses it: Requested reservation is invalid",
          profile="sbatch: {reservation: tuesday}\n"),
    Wrong("more workers than GPUs", "slurm/mine.yaml:1: workers_per_node=4 on gpus_per_node=2: each worker needs a GPU of its own",
          ("--gpus-per-node", "2", "--nproc-per-node", "4")),
    Wrong("workers that cannot share the work", "command line: --nproc-per-node=3: cannot share 8 virtual ranks evenly; use one of",
          ("train.virtual_ranks=8", "--nproc-per-node", "3")),
    Wrong("CUDA without a GPU", "command line: hardware.device is cuda, and the profile asks for no GPU", ("hardware.device=cuda",)),
    Wrong("a config that is wrong", "command line: train.epochs=0: must be", ("train.epochs=0",)),
    Wrong("a target that is wrong", "command line: model.widht=3:", ("model.widht=3",)),
    Wrong("several nodes without Slurm", "slurm/mine.yaml:1: nodes=2: executor=local has one machine, this one",
          profile="executor: local\nnodes: 2\n"),
    *(Wrong(f"a folder that would be read otherwise, executor {executor}",
            "command line: HERE/100%/digits: in names of a job's files % stands for its number; set run.root", ("run.root=100%",),
            profile=f"executor: {executor}\n") for executor in ("slurm", "local", "debug")),
]  # fmt: skip


@contextmanager
def changed(cluster: Cluster, fields: str) -> Iterator[None]:
    """The partition main, otherwise than it is."""
    before = {"state": "up", "maxnodes": "unlimited", "allowaccounts": "all", "allowqos": "all"}
    if fields:
        assert cluster.run("scontrol", "update", "partitionname=main", fields).returncode == 0
    yield
    if fields:
        name = fields.partition("=")[0]
        assert cluster.run("scontrol", "update", "partitionname=main", f"{name}={before[name]}").returncode == 0


def submit(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["ostinato", "submit", str(DIGITS), *arguments])
    monkeypatch.setattr(sys, "path", list(sys.path))
    return answer()


def jobs(cluster: Cluster) -> str:
    """All that this cluster has ever had."""
    return cluster.run("squeue", "--noheader", "--states=all", "--format=%i").stdout


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.name)
def test_it_is_refused_in_one_line_and_nothing_is_created_or_queued(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], wrong: Wrong
) -> None:
    (tmp_path / "slurm").mkdir()
    (tmp_path / "slurm" / "mine.yaml").write_text(wrong.profile or "nodes: 1\n")
    before = jobs(cluster)
    chosen = () if "--profile" in wrong.arguments else ("--profile", "mine")
    with changed(cluster, wrong.cluster):
        assert submit(tmp_path, monkeypatch, *chosen, *wrong.arguments) == BAD_CONFIG
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = [line for line in err.splitlines() if not line.startswith("warning: ")]
    assert line.startswith(wrong.said.replace("HERE", str(tmp_path)))
    assert [path.name for path in tmp_path.iterdir()] == ["slurm"]
    assert jobs(cluster) == before


def test_a_run_that_stands_in_the_queue_is_not_queued_twice(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blocker = cluster.sbatch("sleep 600", "--nodes=2", "--exclusive", "--output=/dev/null")
    cluster.wait_job(blocker, "RUNNING")
    assert submit(tmp_path, monkeypatch) == 0
    job = cluster.run("squeue", "--noheader", "--states=PENDING", "--format=%i").stdout.strip()
    capsys.readouterr()
    for arguments in ((), ("--fresh",), ("--dry-run",)):
        assert submit(tmp_path, monkeypatch, *arguments) == BAD_CONFIG
        out, err = capsys.readouterr()
        assert out == ""
        assert err.splitlines()[-1].startswith(f"ostinato: runs/digits: is waiting already (job {job} in Slurm); wait for it, or end it")
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["digits"]


def test_a_run_that_is_under_way_here_is_not_queued(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run = prepare(DIGITS, (), world_size=1).run
    lock = RunLock(run.lock)
    before = sorted(path.name for path in run.path.iterdir())
    assert submit(tmp_path, monkeypatch) == BAD_CONFIG
    lock.release()
    assert capsys.readouterr().err.startswith("ostinato: runs/digits: is running already (process ")
    assert sorted(path.name for path in run.path.iterdir()) == before


def test_a_partition_that_is_down_takes_the_job_and_says_so(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with changed(cluster, "state=down"):
        assert submit(tmp_path, monkeypatch, "--dry-run") == 0
    out, err = capsys.readouterr()
    assert out.startswith("#!/bin/bash")
    assert err == "warning: partition main is down; the job waits until it is up again\n"


def test_an_account_that_is_not_named_there_is_for_slurm_to_refuse_and_said(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with changed(cluster, "allowaccounts=ours"):
        for account in ("theirs", "OURS"):
            assert submit(tmp_path, monkeypatch, "--dry-run", "--account", account) == 0
    out, err = capsys.readouterr()
    assert "#SBATCH --account=theirs" in out
    assert err == "warning: account: partition main is for ours; the job waits for ever unless theirs is below it\n"


@pytest.mark.parametrize("text", ["5", "5:30", "90:00", "1:00:00", "0:30", "1-2", "1-2:3", "1-2:3:4", "123:45:10", "0:0:1"])
def test_a_time_means_what_slurm_means_by_it(cluster: Cluster, text: str) -> None:
    job = cluster.sbatch("true", "--hold", f"--time={text}", "--output=/dev/null")
    days, _, clock = cluster.job(job)["TimeLimit"].rpartition("-")
    hours, minutes, seconds = map(int, clock.split(":"))
    assert seconds == 0
    assert minutes_of(text) == int(days or 0) * 1440 + hours * 60 + minutes
