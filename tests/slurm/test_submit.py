"""`ostinato submit`: the same training as at home, on two nodes of a real cluster, with the code of the moment when it was submitted."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.jobs import ROOT, environment, events, ostinato, rows, weights
from tests.support.slurm_cluster import Cluster, wait_until
from tests.support.submitted import TWO_NODES, call, finished, launch, output, same, submit, whole_run, write_config
from trainer.rundir import RunDir, read_json, read_jsonl

pytestmark = pytest.mark.timeout(600)  # on a busy machine each start takes its time

MODEL = """
from tests.support.noisy import NoisyNet


class Net(NoisyNet):
    pass
"""


def test_two_nodes_train_as_four_workers_at_home(cluster: Cluster, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    whole = whole_run(tmp_path_factory.getbasetemp())
    write_config(tmp_path, seconds=0.0)
    done = call(cluster, tmp_path, "submit", "c.yaml", *TWO_NODES, "--wait")
    assert done.returncode == 0, done.stderr
    assert "epoch 6/6" in done.stdout
    run = RunDir(tmp_path / "runs" / "c")
    assert same(run, whole)
    told = ostinato(tmp_path, "diff", str(run.path), str(whole.path))
    assert told.returncode == 0, told.stdout
    assert "no difference that matters" in told.stdout
    again = call(cluster, tmp_path, "submit", "c.yaml", *TWO_NODES)
    assert again.returncode == 0
    assert "finished already" in again.stdout
    assert len(list(read_jsonl(run.submissions))) == 1


def test_the_commands_of_the_first_page_give_the_same_weights(cluster: Cluster, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    done = call(cluster, tmp_path, "submit", "configs/digits.yaml", *TWO_NODES, "--wait")
    assert done.returncode == 0, done.stderr
    home = ostinato(tmp_path, "train", "configs/digits.yaml", "run.name=home", "--nproc-per-node", "4")
    assert home.returncode == 0, home.stderr
    there, here = RunDir(tmp_path / "runs" / "digits"), RunDir(tmp_path / "runs" / "home")
    assert weights(there) == weights(here)


def test_a_job_runs_the_code_of_the_moment_when_it_was_submitted(cluster: Cluster, tmp_path: Path) -> None:
    tmp_path /= "it's my run"
    tmp_path.mkdir()
    write_config(tmp_path, seconds=0.0, model="mymodel:Net")
    model = tmp_path / "mymodel.py"
    model.write_text(MODEL)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "model"]):
        subprocess.run([*git, *words], cwd=tmp_path, check=True)
    model.write_text(MODEL + "# not committed\n")
    blocker = cluster.sbatch("sleep 600", "--nodes=2", "--exclusive", "--output=/dev/null")
    cluster.wait_job(blocker, "RUNNING")
    run, job = submit(cluster, tmp_path, "--nproc-per-node", "2", "train.epochs=1")
    model.write_text("raise RuntimeError('this is not what was submitted')\n")
    cluster.run("scancel", blocker)
    finished(cluster, run, job)
    code = read_json(run.environment)[-1]["code"]
    copy = run.slurm / "code" / code["frozen"]
    assert (copy / "mymodel.py").read_text() == MODEL + "# not committed\n"
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()
    assert code["commit"] == head
    assert "not what was submitted" not in output(run)


def test_ctrl_c_ends_the_looking_and_not_the_job(cluster: Cluster, tmp_path: Path) -> None:
    write_config(tmp_path, seconds=0.02)
    process = launch(cluster, tmp_path, "submit", "c.yaml", "--nproc-per-node", "2", "--wait")
    run = RunDir(tmp_path / "runs" / "c")
    wait_until("a step", lambda: bool(list(read_jsonl(run.metrics))), 120)
    process.send_signal(2)
    out, err = process.communicate(timeout=60)
    job = str(list(read_jsonl(run.submissions))[-1]["job_id"])
    assert cluster.job(job)["JobState"] == "RUNNING", out + err
    assert "Traceback" not in err
    assert process.returncode == 130
    assert "the job goes on; ostinato logs" in out
    finished(cluster, run, job)


def test_ctrl_c_in_the_terminal_is_none_of_a_job_on_this_machine_and_a_stop_saves(tmp_path: Path) -> None:
    write_config(tmp_path, seconds=0.05)
    (tmp_path / "p.yaml").write_text("executor: local\nworkers_per_node: 2\nsetup: ['echo set up here']\n")
    command = [sys.executable, "-m", "launcher", "submit", "c.yaml", "--profile", "p.yaml", "--wait"]
    pipe = subprocess.PIPE
    process = subprocess.Popen(  # a terminal's foreground: all that it starts hears of Ctrl-C
        command, cwd=tmp_path, env=environment(), stdout=pipe, stderr=pipe, text=True, start_new_session=True
    )
    run = RunDir(tmp_path / "runs" / "c")
    wait_until("a step", lambda: bool(list(read_jsonl(run.metrics))), 120)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)  # nobody else holds its output
    assert process.returncode == 130, err
    assert "the job goes on; ostinato logs" in out
    seen = len(list(read_jsonl(run.metrics)))
    wait_until("later steps", lambda: len(list(read_jsonl(run.metrics))) >= seen + 3, 120)
    assert "with checkpoint step-" in ostinato(tmp_path, "stop", "runs/c").stdout
    assert events(run, "stopped")
    assert "set up here" in output(run)


def test_a_setup_that_fails_on_this_machine_is_the_end_of_the_job_and_not_waited_for(tmp_path: Path) -> None:
    write_config(tmp_path, seconds=0.0)
    (tmp_path / "p.yaml").write_text("executor: local\nsetup: ['echo here  # a comment', 'cd nowhere', 'echo there']\n")
    done = ostinato(tmp_path, "submit", "c.yaml", "--profile", "p.yaml", "--wait")
    assert done.returncode == 5, done.stdout + done.stderr
    run = RunDir(tmp_path / "runs" / "c")
    assert "lost (its process ended before it began; " in done.stdout + done.stderr
    (log,) = run.slurm.glob("*/*_0_log.out")
    said = log.read_text()
    assert "here\n" in said
    assert "nowhere" in said
    assert "there\n" not in said.replace("here\n", "")


@pytest.mark.parametrize("executor", ["local", "debug"])
def test_a_machine_without_slurm(tmp_path: Path, executor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in environment().keys() & {"SLURM_CONF"}:
        monkeypatch.delenv(name)
    write_config(tmp_path, seconds=0.0)
    (tmp_path / "p.yaml").write_text(f"executor: {executor}\nworkers_per_node: 2\n")
    settings = ["--profile", "p.yaml", "--wait"]
    done = ostinato(tmp_path, "submit", "c.yaml", "train.epochs=1", "run.name=good", *settings)
    assert done.returncode == 0, done.stdout + done.stderr
    home = ostinato(tmp_path, "train", "c.yaml", "train.epochs=1", "run.name=home")
    assert home.returncode == 0, home.stderr
    good, other = RunDir(tmp_path / "runs" / "good"), RunDir(tmp_path / "runs" / "home")
    assert (weights(good), rows(good)) == (weights(other), rows(other))
    write_config(tmp_path, seconds=0.0, model="tests.support.faulty:FaultyNet", more=", fault: exception")
    done = ostinato(tmp_path, "submit", "c.yaml", "run.name=bad", *settings)
    assert done.returncode == 4, done.stdout + done.stderr
