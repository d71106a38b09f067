"""`ostinato verify` says identical where it is so, names what differs where it is not, and its kills are real."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from launcher.trials import Trial, TrialFailed, carry_out, kill_steps, steps_of, trials
from launcher.verify import first_difference
from tests.support.jobs import DIGITS, ROOT, events, ostinato, weights
from trainer.checkpoint import store
from trainer.checkpoint.compare import first_tensor, state_digest
from trainer.errors import ConfigError
from trainer.rundir import RunDir, append_jsonl

pytestmark = pytest.mark.timeout(600)  # on a busy machine each start takes its time

LOOSE = """
model: {target: "tests.support.noisy:NoisyNet"}
data: {train: {target: "tests.support.noisy:LooseImages"}, batch_size: 24}
optimizer: {target: sgd, lr: 0.05}
train: {epochs: 2}
"""
EVERY_STEP = ("train.virtual_ranks=2", "data.batch_size=48", "checkpoint.every_steps=2", "log.every_steps=1", "log.tensorboard=false")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own to work in, from which trials find this project."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


def test_digits_is_identical_on_one_two_and_three_workers_and_through_kills_in_the_steps_that_it_has(tmp_path: Path) -> None:
    options = ("--world-sizes", "1,2,3", "--kills", "2", "--steps", "1000", "--json")
    done = ostinato(tmp_path, "verify", str(DIGITS), "data.batch_size=48", "train.epochs=4", *options)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["identical"], found["verdict"], found["folder"]) == (True, ["identical"], None)
    assert len({trial["weights"] for trial in found["trials"]}) == 1
    assert len({trial["state"] for trial in found["trials"]}) == 1
    assert all(len(trial[name]) == 64 for trial in found["trials"] for name in ("weights", "state"))
    assert [len(trial["killed"]) for trial in found["trials"]] == [0, 0, 0, 2]
    assert all(0 < int(killed.split()[-1]) < 104 for killed in found["trials"][-1]["killed"])  # an epoch has 26 steps
    assert not list((tmp_path / "runs").iterdir())


def test_a_kill_takes_a_live_process_and_the_next_attempt_goes_on_with_other_workers(here: Path) -> None:
    trial = Trial("1 kill", [2, 1], RunDir(here / "killed"))
    carry_out(trial, str(DIGITS), [*EVERY_STEP, "train.max_steps=160"], [8], seed=0)
    first, second = [row for row in events(trial.run, "started") + events(trial.run, "resumed")]
    assert (first["attempt"], first["workers"], first["checkpoint"]) == (0, 2, None)
    assert (second["attempt"], second["workers"]) == (1, 1)
    acknowledged = [row["step"] for row in events(trial.run, "checkpointed") if row["attempt"] == 0]
    assert store.step_of(second["checkpoint"]) >= max(acknowledged) >= 2
    assert [row["attempt"] for row in events(trial.run, "finished")] == [1]
    assert not events(trial.run, "stopped")
    assert steps_of(trial.run) == 160
    assert len(trial.killed) == 1
    assert 8 <= int(trial.killed[0].split()[-1]) < 160
    assert trial.weights == weights(trial.run)


def test_a_data_set_with_a_generator_of_its_own_is_caught_with_the_first_step_and_tensor(tmp_path: Path) -> None:
    (tmp_path / "loose.yaml").write_text(LOOSE)
    done = ostinato(tmp_path, "verify", "loose.yaml", "--world-sizes", "1,2", "--kills", "0", "--steps", "8", "--json")
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    lines = found["verdict"]
    assert not found["identical"]
    assert lines[0] == "different: 1 worker and 2 workers"
    assert any(line.startswith("  first in step 1, train loss: ") for line in lines)
    assert any(line.startswith("  first tensor: 0.weight in step-00000001") for line in lines)
    kept = tmp_path / found["folder"]
    assert [weights(RunDir(kept / name)) for name in ("w1", "w2")] == [trial["weights"] for trial in found["trials"]]


def test_an_attempt_that_fails_by_itself_before_its_kill_is_told_with_its_own_text(here: Path) -> None:
    (here / "bad.yaml").write_text(LOOSE.replace("NoisyNet", "Exploding"))
    trial = Trial("1 kill", [1, 1], RunDir(here / "killed"))
    with pytest.raises(TrialFailed, match="the training loss on rank 0 is not finite") as raised:
        carry_out(trial, "bad.yaml", ["log.every_steps=1", "log.tensorboard=false"], [6], seed=0)
    assert raised.value.exit_code == 4
    assert trial.killed == []


def test_an_attempt_that_is_through_before_its_kill_is_no_killed_one(here: Path) -> None:
    trial = Trial("1 kill", [1, 1], RunDir(here / "killed"))
    with pytest.raises(TrialFailed, match=r"^1 kill: it was to be killed at step 9, and .* give it more --steps") as raised:
        carry_out(trial, str(DIGITS), [*EVERY_STEP, "train.max_steps=3"], [9], seed=0)
    assert raised.value.exit_code == 4
    assert trial.killed == []


@pytest.mark.parametrize(("steps", "kills"), [(1, 0), (2, 1), (4, 3), (24, 2), (60, 3), (1000, 7)])
def test_each_attempt_has_a_step_of_its_own_before_its_kill_and_the_last_one_has_some_left(steps: int, kills: int) -> None:
    for seed in range(20):
        chosen = kill_steps(steps, kills, seed)
        assert len(chosen) == kills
        assert chosen == sorted(set(chosen))
        assert all(0 < step < steps for step in chosen)


def test_more_kills_than_there_are_steps_for_are_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a run of 3 steps has room for 2 at most"):
        kill_steps(3, 3, 0)
    done = ostinato(tmp_path, "verify", str(DIGITS), "--steps", "2", "--kills", "2")
    assert (done.returncode, done.stderr) == (2, "command line: --kills=2: a run of 2 steps has room for 1 at most\n")
    assert not (tmp_path / "runs").exists()


def test_workers_that_do_not_divide_the_virtual_ranks_are_refused(tmp_path: Path) -> None:
    done = ostinato(tmp_path, "verify", str(DIGITS), "train.virtual_ranks=4", "--world-sizes", "1,3")
    assert done.returncode == 2
    assert "3 workers cannot share 4 virtual ranks" in done.stderr
    assert not (tmp_path / "runs").exists()


def checkpoint(folder: Path, momentum: float) -> Path:
    folder.mkdir()
    state = {"step": 1, "model": {"w": torch.ones(3)}, "optimizer": {"state": {0: {"m": torch.tensor(momentum)}}}, "ema": None}
    store.point(folder, "last", store.write(folder, state, {"weights": "the same"}))
    return folder


def test_another_optimizer_state_shows_where_the_weights_agree(tmp_path: Path) -> None:
    one, again, other = (checkpoint(tmp_path / name, momentum) for name, momentum in (("a", 0.5), ("b", 0.5), ("c", 0.25)))
    assert state_digest(one) == state_digest(again) != state_digest(other)
    assert first_tensor(one, again) is None
    assert first_tensor(one, other) == "optimizer.state.0.m in step-00000001"


def test_another_figure_shows_where_the_states_agree(tmp_path: Path) -> None:
    found = trials(tmp_path, [1, 2], 0, seed=0)
    for trial, accuracy in zip(found, (0.5, 0.75), strict=True):
        trial.state = trial.weights = "the same"
        trial.run.create()
        trial.run.config.write_text(DIGITS.read_text())
        append_jsonl(trial.run.metrics, {"step": 1, "split": "valid", "accuracy": accuracy})
    parted = first_difference(found)
    assert parted is not None
    assert "valid accuracy" in parted[2][-1].what
    assert first_difference([found[0], found[0]]) is None
