"""A job in a container without Slurm's commands queues again all the same: its script, outside, does it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launcher.clock import told
from launcher.sbatch import GRANT, LEFT, TASK
from tests.support.slurm_cluster import Cluster
from tests.support.submitted import finished, output, same, submit, turns, wait_for, whole_run, write_config

pytestmark = pytest.mark.timeout(600)  # on a busy machine each start takes its time

# As the real one starts a command in an image, which is a file; the image has this python, a shell and nothing of Slurm.
APPTAINER = """#!/bin/sh
shift
while [ "${{1#--}}" != "$1" ]; do [ "$1" = --bind ] && shift; shift; done
[ -e "$1" ] || {{ echo "no image $1" >&2; exit 255; }}
shift 2
echo "$OSTINATO_TIME_LEFT" >> {left}
exec env PATH={inside} {python} "$@"
"""


def test_a_job_in_a_container_comes_again_and_ends_with_the_same_bits(
    cluster: Cluster, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole = whole_run(tmp_path_factory.getbasetemp())
    for name in ("outside", "inside"):
        (tmp_path / name).mkdir()
    for name in ("sh", "env", "uname", "cat"):
        (tmp_path / "inside" / name).symlink_to(shutil.which(name) or "")
    program = tmp_path / "outside" / "apptainer"
    program.write_text(APPTAINER.format(inside=tmp_path / "inside", python=sys.executable, left=tmp_path / "left"))
    program.chmod(0o755)
    write_config(tmp_path)
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)  # the job begins in a copy, in which the image is not
    (tmp_path / ".gitignore").write_text("*.sif\n")
    (tmp_path / "box.sif").touch()
    (tmp_path / "boxed.yaml").write_text(
        f"nodes: 1\nworkers_per_node: 2\ntime: 30\nmemory_gb: 0\nsetup: ['set -e', 'export PATH={program.parent}:$PATH']\n"
        f"container: {{runtime: apptainer, image: box.sif, mounts: [{tmp_path}]}}\n"
    )
    run, job = submit(cluster, tmp_path, "--profile", "boxed.yaml")
    wait_for(cluster, run, job, step=6)
    cluster.run("scancel", "--signal=USR2", job)
    wait_for(cluster, run, job, step=8, attempt=1)
    assert turns(run) == ["SIGUSR2"], output(run)
    finished(cluster, run, job)
    assert same(run, whole)
    assert not list(run.slurm.glob("again-*"))
    ends = [told({LEFT: line}) for line in (tmp_path / "left").read_text().splitlines()]
    assert all(end is not None and time.time() < end < time.time() + 30 * 60 for end in ends)
    assert len(ends) == 2  # each turn has asked


def test_a_job_in_a_container_that_is_cancelled_does_not_come_again(cluster: Cluster, tmp_path: Path) -> None:
    wish = f"{tmp_path}/again-$SLURM_JOB_ID"
    job = cluster.sbatch(
        f"echo 0 SIGTERM > {wish}; srun --ntasks=1 sleep 600\n{GRANT.format(wish=wish, task=TASK)}", "--requeue", "--output=/dev/null"
    )
    cluster.wait_job(job, "RUNNING")
    cluster.run("scancel", job)
    assert cluster.wait_job(job, "CANCELLED")["Restarts"] == "0"
