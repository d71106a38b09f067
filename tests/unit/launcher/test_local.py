"""Whole runs through the real command line, with the real worker."""

import contextlib
import json
import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.support.command import ostinato, started
from tests.support.jobs import catches

CONFIG = """
model: {target: mlp, in_features: 64, num_classes: 10}
data: {train: {target: digits}, valid: {target: digits, split: valid}, batch_size: 64}
optimizer: {target: sgd, lr: 0.1}
train: {epochs: %d}
log: {tensorboard: false}
supervision: {max_restarts: 0}
"""
USER_MODULE = """
import torch

class Fails(torch.nn.Linear):
    def forward(self, x):
        raise ValueError("the seventh layer does not fit")
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "quick.yaml").write_text(CONFIG % 1)
    (tmp_path / "long.yaml").write_text(CONFIG % 100000)
    (tmp_path / "mine.py").write_text(USER_MODULE)
    return tmp_path


@pytest.fixture
def running(folder):
    """A run of 2 workers that is well past its first step."""
    process = started(["train", "long.yaml", "--nproc-per-node", "2"], cwd=folder)
    beats = folder / "runs/long/heartbeats"
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError, ValueError, KeyError):
            if json.loads((beats / "rank-0.json").read_text())["step"] > 20:
                break
        time.sleep(0.05)
    yield process
    process.kill()
    process.communicate(timeout=20)


def workers_of(process):
    """The workers: what the fork server has started."""
    children = psutil.Process(process.pid).children()
    return [worker for child in children for worker in child.children()]


def test_a_run_ends_with_its_result_and_the_same_command_says_that_it_is_finished(folder):
    first = ostinato("train", "quick.yaml", "--nproc-per-node", "2", cwd=folder)
    assert first.returncode == 0, first.stderr
    assert first.stdout.splitlines()[-1].startswith("valid accuracy ")
    assert "run folder runs/quick" in first.stdout
    second = ostinato("train", "quick.yaml", "--nproc-per-node", "2", cwd=folder)
    assert second.returncode == 0, second.stderr
    assert "finished" in second.stdout
    third = ostinato("train", "quick.yaml", "--nproc-per-node", "2", "--fresh", cwd=folder)
    assert third.returncode == 0, third.stderr
    assert (folder / "runs/quick.1").is_dir()


def test_a_users_own_module_is_found_beside_the_command_and_its_fault_told_in_ten_lines(folder):
    overrides = ["model={target: 'mine:Fails', in_features: 64, out_features: 10}", "run.name=mine"]
    done = ostinato("train", "quick.yaml", *overrides, "--nproc-per-node", "2", cwd=folder)
    assert done.returncode == 4, done.stdout + done.stderr
    assert "ValueError: the seventh layer does not fit" in done.stderr
    assert len(done.stderr.splitlines()) <= 10, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("log: runs/mine/logs/attempt-000/rank-")
    assert (folder / last.removeprefix("log: ")).is_file()


@pytest.mark.skipif(any(Path("/dev").glob("nvidia[0-9]*")), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_told_before_anything_is_created(folder):
    done = ostinato("train", "quick.yaml", "hardware.device=cuda", "--nproc-per-node", "2", cwd=folder)
    assert done.returncode == 2
    assert "a GPU for each of the 2 workers here, 0 visible" in done.stderr
    assert not (folder / "runs").exists()


def test_ctrl_c_before_there_is_a_run_ends_at_once_and_leaves_nothing_running(folder):
    process = started(["train", "quick.yaml", "--nproc-per-node", "2"], cwd=folder)
    end = time.monotonic() + 60
    while not catches(process.pid, signal.SIGHUP) and time.monotonic() < end:  # once it hears that, it hears all
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)  # whoever were left would hold the pipe
    assert process.returncode in (-signal.SIGINT, 75), stderr  # 75: this machine is quick, and there was a run already
    assert "Traceback" not in stderr


def test_ctrl_c_stops_with_a_checkpoint_and_the_same_command_goes_on(running, folder):
    running.send_signal(signal.SIGINT)
    stdout, stderr = running.communicate(timeout=60)
    assert running.returncode == 75, stderr
    assert stdout.splitlines()[-1].startswith("stopped at step ")
    assert "with a checkpoint; the same command goes on" in stdout
    again = started(["train", "long.yaml", "--nproc-per-node", "1"], cwd=folder)  # with other workers, too
    for line in again.stdout:
        if "training from step-" in line:
            break
    again.send_signal(signal.SIGTERM)
    stdout, stderr = again.communicate(timeout=60)
    assert again.returncode == 75, stdout + stderr


def test_a_second_start_in_the_same_folder_is_refused_and_told_by_whom(running, folder):
    for extra in ([], ["--fresh"]):
        second = ostinato("train", "long.yaml", "--nproc-per-node", "2", *extra, cwd=folder)
        assert second.returncode == 2
        assert f"in use by process {running.pid} on " in second.stderr
        assert len(second.stderr.splitlines()) == 1
    assert running.poll() is None
    assert (folder / "runs/long").is_dir()


def test_a_killed_worker_is_named_and_ends_the_run_with_5(running):
    victim = workers_of(running)[1]
    victim.kill()
    _, stderr = running.communicate(timeout=60)
    assert running.returncode == 5, stderr
    assert "was killed by SIGKILL (out of memory?)" in stderr.splitlines()[0]
    assert len(stderr.splitlines()) <= 10


def test_no_worker_survives_a_killed_launcher(running):
    workers = workers_of(running)
    running.kill()
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert (len(workers), alive) == (2, [])
