"""`ostinato verify` says identical where it is so, and names what differs where it is not."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.jobs import DIGITS, ostinato

LOOSE = """
model: {target: "tests.support.noisy:NoisyNet"}
data: {train: {target: "tests.support.noisy:LooseImages"}, batch_size: 24}
optimizer: {target: sgd, lr: 0.05}
train: {epochs: 2}
"""


def test_digits_is_identical_on_one_two_and_three_workers_and_through_kills(tmp_path: Path) -> None:
    options = ("--world-sizes", "1,2,3", "--kills", "2", "--steps", "24", "--json")
    done = ostinato(tmp_path, "verify", str(DIGITS), "data.batch_size=48", *options)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["identical"]
    assert len({trial["weights"] for trial in found["trials"]}) == 1
    assert [len(trial["killed"]) for trial in found["trials"]] == [0, 0, 0, 2]
    assert not list((tmp_path / "runs").iterdir())


def test_a_data_set_with_a_generator_of_its_own_is_caught_with_the_first_step_and_tensor(tmp_path: Path) -> None:
    (tmp_path / "loose.yaml").write_text(LOOSE)
    done = ostinato(tmp_path, "verify", "loose.yaml", "--world-sizes", "1,2", "--kills", "0", "--steps", "8")
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    assert "different: 1 worker and 2 workers" in lines
    assert any(line.startswith("  first in step 1, train loss: ") for line in lines)
    assert any(line.startswith("  first tensor: 0.weight in step-00000001") for line in lines)
    assert list((tmp_path / "runs").iterdir()), "the runs are kept to be looked at"


def test_workers_that_do_not_divide_the_virtual_ranks_are_refused(tmp_path: Path) -> None:
    done = ostinato(tmp_path, "verify", str(DIGITS), "train.virtual_ranks=4", "--world-sizes", "1,3")
    assert done.returncode == 2
    assert "3 workers cannot share 4 virtual ranks" in done.stderr
    assert not (tmp_path / "runs").exists()
