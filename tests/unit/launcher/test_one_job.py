"""Each run has one job at most: submissions wait for each other, and what nobody has written down is taken back."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from launcher.logs import follow_to_its_end
from launcher.sbatch import overruled, plain
from launcher.standing import look_at
from launcher.stopping import stop
from tests.support.jobs import DIGITS, LIMIT_S, events, start
from trainer.errors import BAD_CONFIG, LOST, TRAINING_FAILED
from trainer.rundir import RunDir, append_jsonl, read_jsonl

DOWN = "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1"
SUBMITTED = """
[ "$1" = --test-only ] && exit 0
env > {folder}/variables
sleep {seconds}
echo "$1" >> {folder}/queued
{more}
echo "Submitted batch job 7"
"""
# One question is by a job's number, the other, after a fault, by the path of its script.
QUEUE = """
[ -e {folder}/queued ] || exit 0
case "$*" in *--me*) echo "6|RUNNING|/other.sh"; echo "5|RUNNING|{folder}/runs/_sweeps/c/slurm/.earlier.sh"
echo "7|PENDING|$(tail -n 1 {folder}/queued)";;
*) echo "7|PENDING||1|5:00|5:00|main|Priority";; esac
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a config, and commands that are called like Slurm's before all others."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "c.yaml").write_text(DIGITS.read_text())
    for name in ("sinfo", "scontrol", "srun"):
        put(tmp_path, name, "exit 1")
    put(tmp_path, "squeue", QUEUE.format(folder=tmp_path))
    put(tmp_path, "scancel", f'echo "$@" >> {tmp_path}/cancelled')
    put(tmp_path, "sbatch", SUBMITTED.format(folder=tmp_path, seconds=0, more=""))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/local/bin:/usr/bin:/bin")
    return tmp_path


def put(folder: Path, name: str, script: str) -> None:
    (folder / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / "bin" / name).chmod(0o755)


def submit(folder: Path, **more: str) -> subprocess.Popen[str]:
    return start(folder, "submit", "c.yaml", "--nproc-per-node", "1", **more)


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, err = process.communicate(timeout=LIMIT_S)
    return process.returncode, err


def test_of_two_submissions_at_once_one_is_queued_and_the_other_hears_of_it(slurm: Path) -> None:
    put(slurm, "sbatch", SUBMITTED.format(folder=slurm, seconds=3, more=""))
    one, two = sorted(ended(process) for process in [submit(slurm), submit(slurm)])
    assert (one[0], two[0]) == (0, BAD_CONFIG), (one, two)
    assert "is waiting already (job 7 in Slurm)" in two[1]
    assert len((slurm / "queued").read_text().splitlines()) == 1
    run = RunDir(slurm / "runs" / "c")
    assert len(events(run, "submitted")) == len(list(read_jsonl(run.submissions))) == 1
    assert not (run.path.parent / ".submitting").exists()


@pytest.mark.parametrize("runs", [("c",), ("c-lr0.1", "c-lr0.2")], ids=["a job", "an array"])
@pytest.mark.parametrize(
    ("more", "code"),
    [("mkdir {folder}/runs/{run}/slurm/submissions.jsonl", LOST), ("echo nothing that one understands; exit 0", BAD_CONFIG)],
)
def test_a_job_that_could_not_be_written_down_is_taken_back(slurm: Path, runs: tuple[str, ...], more: str, code: int) -> None:
    (slurm / "runs" / "_sweeps" / "c" / "slurm").mkdir(parents=True)
    (slurm / "runs" / "_sweeps" / "c" / "slurm" / ".earlier.sh").touch()  # of an array that goes on
    put(slurm, "sbatch", SUBMITTED.format(folder=slurm, seconds=0, more=more.format(folder=slurm, run=runs[-1])))
    many = ("sweep", "c.yaml", "--grid", "optimizer.lr=0.1,0.2", "--slurm", "--nproc-per-node", "1")
    found, err = ended(submit(slurm) if len(runs) == 1 else start(slurm, *many))
    assert found == code, err
    assert (slurm / "cancelled").read_text() == "7\n"
    assert all(len(events(RunDir(slurm / "runs" / run), "refused")) == 1 for run in runs)


def test_variables_for_sbatch_do_not_change_the_job_and_a_line_says_so(slurm: Path) -> None:
    code, err = ended(submit(slurm, SBATCH_TIMELIMIT="1", SLURM_NNODES="4", SRUN_CPUS_PER_TASK="9", SLURM_CONF="/there", MINE="yes"))
    assert code == 0, err
    given = dict(line.partition("=")[::2] for line in (slurm / "variables").read_text().splitlines())
    assert not {"SBATCH_TIMELIMIT", "SLURM_NNODES", "SRUN_CPUS_PER_TASK"} & set(given)
    assert (given["SLURM_CONF"], given["MINE"]) == ("/there", "yes")
    assert "warning: SBATCH_TIMELIMIT: set here, and without effect" in err


def test_nothing_is_said_where_nothing_is_set() -> None:
    assert overruled({"SLURM_CONF": "x"}) is None
    assert plain({"SLURM_CONF": "x", "SLURM_JOB_ID": "1", "HOME": "/h"}) == {"SLURM_CONF": "x", "HOME": "/h"}


@pytest.fixture
def stopped(slurm: Path) -> RunDir:
    """A run whose job Slurm has preempted, and queued again: its newest event says `stopped`."""
    run = RunDir(slurm / "runs" / "c")
    run.create()
    run.slurm.mkdir()
    run.config.write_text(DIGITS.read_text())
    run.event("created", config="c.yaml", overrides=[])
    append_jsonl(run.submissions, {"job_id": "7"})
    run.event("submitted")
    run.event("started", attempt=0)
    run.event("stopped", step=3)
    return run


def test_a_run_whose_job_slurm_says_nothing_about_is_not_queued_a_second_time(slurm: Path, stopped: RunDir) -> None:
    put(slurm, "squeue", DOWN)
    code, err = ended(submit(slurm))
    assert code == BAD_CONFIG
    assert "job 7 may have it under way: Slurm does not answer" in err
    assert not (slurm / "queued").exists()


def test_nor_by_a_sweep_which_leaves_it_alone(slurm: Path, stopped: RunDir) -> None:
    stopped.config.write_text(re.sub(r"\blr: 0\.05\b", "lr: 0.1", DIGITS.read_text()))
    stopped.path.rename(stopped.path.with_name("c-lr0.1"))
    put(slurm, "squeue", DOWN)
    process = start(slurm, "sweep", "c.yaml", "--grid", "optimizer.lr=0.1,0.2", "--slurm", "--nproc-per-node", "1", "--dry-run", "--json")
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, err
    assert "1 of 2 runs left alone" in err
    assert "--array=0-1" not in out


def test_nor_is_it_taken_for_one_that_has_ended(slurm: Path, stopped: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    put(slurm, "squeue", f"echo again >> {slurm}/looked; [ $(wc -l < {slurm}/looked) -gt 2 ] || {{ {DOWN}; }}")
    assert look_at(stopped)[0].unsure
    stopped.attempt_logs(0).mkdir()
    stopped.rank_log(0, 0).write_text("training\n")
    assert follow_to_its_end(stopped)
    assert len((slurm / "looked").read_text().splitlines()) == 3
    assert capsys.readouterr().out == "training\n"


def test_nor_does_a_request_to_stop_it_pass_for_done(slurm: Path, stopped: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    put(slurm, "squeue", DOWN)
    assert stop([str(stopped.path)]) == BAD_CONFIG
    assert "it was not stopped, try again" in capsys.readouterr().err


def test_a_run_that_has_failed_for_good_needs_no_answer(slurm: Path, stopped: RunDir) -> None:
    put(slurm, "squeue", DOWN)
    stopped.event("failed", exit_code=LOST)
    assert look_at(stopped)[0].unsure
    stopped.event("failed", exit_code=TRAINING_FAILED)
    assert not look_at(stopped)[0].unsure
