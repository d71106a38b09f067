"""Runs that are submitted to a throw-away cluster, and what is to be seen of them there."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import suppress
from pathlib import Path

import psutil

from tests.support.jobs import LIMIT_S, events, ostinato, rows, start, weights
from tests.support.slurm_cluster import Cluster, wait_until
from trainer.rundir import RunDir, read_json, read_jsonl

STEPS = 48
CONFIG = """
model: {{target: "{model}"{more}}}
data:
  train: {{target: "tests.support.noisy:SlowImages", seconds: {seconds}, later: {later}}}
  valid: {{target: "tests.support.noisy:NoisyImages", size: 20}}
  batch_size: 24
  eval_batch_size: 4
optimizer: {{target: sgd, lr: 0.05, momentum: 0.9}}
train: {{epochs: 6, virtual_ranks: 4}}
checkpoint: {{every_steps: 4}}
hardware: {{device: cpu, threads: 1}}
log: {{every_steps: 1, tensorboard: false}}
"""
TWO_NODES = ("--nnodes", "2", "--nproc-per-node", "2")


def write_config(
    folder: Path, seconds: float = 0.02, model: str = "tests.support.noisy:NoisyNet", more: str = "", later: float | None = None
) -> Path:
    """A config that takes its time: `seconds` for each of a worker's six samples a step, `later` in a job's later turns."""
    path = folder / "c.yaml"
    path.write_text(CONFIG.format(seconds=seconds, model=model, more=more, later=seconds if later is None else later))
    return path


def whole_run(shared: Path) -> RunDir:
    """The same config on four workers of this machine, without interruption; made once."""
    folder = shared / "whole"
    run = RunDir(folder / "runs" / "c")
    if not folder.exists():
        folder.mkdir()
        write_config(folder, seconds=0.0)
        done = ostinato(folder, "train", "c.yaml", "--nproc-per-node", "4")
        assert done.returncode == 0, done.stderr
    return run


def launch(cluster: Cluster, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """``ostinato …`` as on the login node."""
    return start(folder, *arguments, SLURM_CONF=cluster.env()["SLURM_CONF"])


def call(cluster: Cluster, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    process = launch(cluster, folder, *arguments)
    out, err = process.communicate(timeout=2 * LIMIT_S)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def submit(cluster: Cluster, folder: Path, *arguments: str) -> tuple[RunDir, str]:
    """Submit the folder's config; its run and job."""
    done = call(cluster, folder, "submit", "c.yaml", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout.splitlines()[-1])
    return RunDir(facts["run_dir"] if Path(facts["run_dir"]).is_absolute() else folder / facts["run_dir"]), str(facts["job_id"])


def wait_for(cluster: Cluster, run: RunDir, job: str, step: int, attempt: int = 0) -> None:
    """Wait until an attempt has done a step."""

    def there() -> bool:
        if any(int(row["step"]) >= step and row["attempt"] >= attempt for row in read_jsonl(run.metrics)):
            return True
        state = cluster.job(job)["JobState"]
        assert state not in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT"), f"{state}: {output(run)}"
        return False

    try:
        wait_until(f"step {step} of attempt {attempt}", there, LIMIT_S)
    except TimeoutError as fault:
        raise TimeoutError(f"{fault}\n{output(run)}\n{run.events.read_text()}\n{cluster.job(job)}") from None


def finished(cluster: Cluster, run: RunDir, job: str) -> None:
    """Wait until a job has completed, in Slurm's eyes too."""
    ended = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED")
    try:
        state = cluster.wait_job(job, ended, 2 * LIMIT_S)["JobState"]
    except TimeoutError as fault:
        raise TimeoutError(f"{fault}\n{output(run)}\n{run.events.read_text()}") from None
    assert state == "COMPLETED", f"{state}: {output(run)}\n{run.events.read_text()}"


def output(run: RunDir) -> str:
    """What the newest job's nodes have said."""
    log = Path(list(read_jsonl(run.submissions))[-1]["log"])
    return "".join(f"--- {path.name}\n{path.read_text()}" for path in sorted(log.parent.glob("*_log.*")))


def same(run: RunDir, whole: RunDir) -> bool:
    """Whether two runs have the same weights and the same rows, each step once."""
    steps = [row["step"] for row in rows(run) if row["split"] == "train" and "epoch_end" not in row]
    return weights(run) == weights(whole) and rows(run) == rows(whole) and set(steps) == set(range(1, STEPS + 1))


def nothing_is_lost(run: RunDir) -> bool:
    """Whether each start went on from the newest checkpoint of those before, and each stop left one of its last step."""
    newest, step = "", 0
    for row in read_jsonl(run.events):
        if row["event"] == "checkpointed":
            newest, step = row["checkpoint"], row["step"]
        lost = row["event"] == "stopped" and row["step"] != step
        # A machine may be gone between a checkpoint and the line that tells of it.
        if lost or (row["event"] in ("started", "resumed") and (row["checkpoint"] or "") < newest):
            return False
    return True


def turns(run: RunDir) -> list[str]:
    """Why the job was queued again, each time."""
    return [str(event["reason"]) for event in events(run, "requeued")]


def process_on(node: str, inner: int) -> psutil.Process:
    """A process of a node, by the number that it has there."""
    for process in _of_node(node):
        with suppress(OSError):  # it has ended
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            numbers = next(line for line in lines if line.startswith("NSpid:")).split()[1:]
            if int(numbers[-1]) == inner:
                return process
    raise LookupError(f"process {inner} on {node}")


def worker_on(node: str, run: RunDir, rank: int) -> psutil.Process:
    """The process of a rank."""
    return process_on(node, int(read_json(run.heartbeat(rank))["pid"]))


def launcher_on(node: str) -> psutil.Process:
    """The launcher of the node's task."""
    [found] = filter(_is_task, _of_node(node))
    return found


def _is_task(process: psutil.Process) -> bool:
    with suppress(psutil.Error):  # one of them has ended
        parent = process.parent()
        return "submitit.core._submit" in process.cmdline() and parent is not None and "slurmstepd" in " ".join(parent.cmdline())
    return False


def _of_node(node: str) -> list[psutil.Process]:
    """The processes of a node of this test's cluster; others may have nodes of the same name."""
    found = []
    for process in psutil.process_iter():
        try:
            variables = process.environ()
        except psutil.Error:
            continue
        here = variables.get("SLURMD_NODENAME") == node and variables.get("SLURM_CONF") == os.environ["SLURM_CONF"]
        if here and "SLURM_STEP_ID" in variables:
            found.append(process)
    return found
