"""Bad samples, secrets, file modes and rows through the real command line."""

from __future__ import annotations

import json
import os
import secrets
import signal
import stat
import subprocess
from pathlib import Path

import pytest

from tests.support.jobs import DIGITS, SHORT, hurry, ostinato, pid_of, rows, slow_digits, start, wait_for_step, weights
from trainer.rundir import RunDir, read_jsonl

CONFIG = """\
model: {target: mlp, in_features: 3, hidden: [8], num_classes: 48}
data:
  train: {target: "holed:Train"}
  valid: {target: "holed:Valid"}
  batch_size: 12
  eval_batch_size: 6
  bad_samples: skip
optimizer: {target: sgd, lr: 0.1}
train: {epochs: 2, virtual_ranks: 6}
hardware: {device: cpu, threads: 1}
log: {tensorboard: false, every_steps: 1}
"""
SETS = """
from tests.unit.data.holed_sets import Holed


class Single(Holed):
    def __getitem__(self, index):
        value, target = super().__getitem__(index)
        return value.float(), target


def Train():
    return Single(48, {0, 11, 17, 18, 19, 47})


def Valid():
    return Single(20, {3, 12, 13, 14, 15, 16, 17})
"""


@pytest.fixture
def holed(tmp_path: Path) -> Path:
    """A folder with a config whose data sets have samples that cannot be read."""
    (tmp_path / "holed.py").write_text(SETS)
    (tmp_path / "holed.yaml").write_text(CONFIG)
    return tmp_path


def test_bad_samples_are_replaced_with_the_same_bits_on_any_number_of_workers(holed: Path) -> None:
    found = {}
    for workers, loader_workers in [(1, 0), (2, 0), (3, 0), (1, 2), (3, 2)]:
        name = f"w{workers}l{loader_workers}"
        command = ("train", "holed.yaml", f"run.name={name}", f"data.loader_workers={loader_workers}", "data.max_bad_samples=13")
        done = ostinato(holed, *command, "--nproc-per-node", str(workers))
        assert done.returncode == 0, done.stderr
        run = RunDir(holed / "runs" / name)
        found[name] = (weights(run), rows(run))
        logs = "".join(path.read_text() for path in run.attempt_logs(0).glob("rank-*.log"))
        assert "sample 17 (images/17.png) cannot be read: OSError" in logs
    first = found.pop("w1l0")
    assert all(other == first for other in found.values())


def test_a_bad_sample_ends_a_run_that_does_not_allow_it_and_its_file_is_named(holed: Path) -> None:
    done = ostinato(holed, "train", "holed.yaml", "data.bad_samples=fail", "--nproc-per-node", "2")
    assert done.returncode == 4
    assert "cannot be read: OSError: image file is truncated" in done.stderr
    assert "(images/" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("workers", ["1", "3"])
def test_more_bad_samples_than_allowed_end_the_run_on_any_number_of_workers(holed: Path, workers: str) -> None:
    done = ostinato(holed, "train", "holed.yaml", "data.max_bad_samples=4", "data.valid=null", "--nproc-per-node", workers)
    assert done.returncode == 4
    assert "samples cannot be read, more than data.max_bad_samples 4" in done.stderr


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-c", "user.name=x", "-c", "user.email=x@x", *arguments], cwd=folder, check=True, capture_output=True)


def test_no_secret_of_the_environment_the_repository_or_the_command_line_stands_in_a_run_folder(tmp_path: Path) -> None:
    canaries: list[str] = []

    def canary() -> str:
        canaries.append(f"canary{secrets.token_hex(12)}")
        return canaries[-1]

    files = (
        ".env",
        ".env.local",
        ".netrc",
        "id_ed25519",
        "server.key",
        "deep/ca.pem",
        "my_secrets.yaml",
        "Credentials.json",
        "secrets/note.txt",
    )
    for name in (*files, "net.py", "plain.txt", "sweep.yaml", "start.sh"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("before\n" if name != "net.py" else "")
    git(tmp_path, "init", "-q")
    git(tmp_path, "remote", "add", "origin", f"https://me:{canary()}@example.org/repo.git")
    git(tmp_path, "add", "-f", ".")
    git(tmp_path, "commit", "-q", "-m", "before")
    for name in files:
        (tmp_path / name).write_text(f"{canary()}\n")
    (tmp_path / "plain.txt").write_text("this change is kept\n")
    (tmp_path / "sweep.yaml").write_text(
        f"password: {canary()}\nwandb: {{hf_token: {canary()}, secret: {canary()} dry}}\nheaders:\n  Authorization: Bearer {canary()}\n"
        f"db: postgres://me:p@{canary()}@host/x\ncredentials:\n  - {canary()}\nprivate_key: |\n  {canary()}\n  {canary()}\nlr: 0.25\n"
    )
    (tmp_path / "start.sh").write_text(
        f"export WANDB_API_KEY={canary()}\nHF_TOKEN={canary()} ostinato train x.yaml --password {canary()}\n"
        f"curl -H 'Authorization: Bearer {canary()}' 'https://example.org/?access_token={canary()}'\necho begun\n"
    )
    code = f'from trainer.models.simple import MLP\nAPI_TOKEN = "{canary()}"\nURL = "https://me:{canary()}@example.org"\n'
    code += f'import os\nos.environ["HF_TOKEN"] = "{canary()}"\nSECRET_KEY = "{canary()}"\nAPI_KEY=b"{canary()}"\n'
    (tmp_path / "net.py").write_text(
        code + "\n\ndef net(api_key: str) -> MLP:\n    return MLP(in_features=64, hidden=[8], num_classes=10)\n"
    )
    variables = {name: canary() for name in ("WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "SOME_PASSWORD", "PLAIN_NAME")}
    in_config = f"canary{secrets.token_hex(12)}"
    process = start(
        tmp_path, "train", str(DIGITS), *SHORT, "train.epochs=1", f'model={{target: "net:net", api_key: {in_config}}}', **variables
    )
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    run = RunDir(tmp_path / "runs" / "digits")
    contents = {path.relative_to(run.path): path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    entry = json.loads(contents[Path("environment.json")])[-1]
    assert "this change is kept" in entry["code"]["diff"]  # else nothing was looked at
    assert "lr: 0.25" in entry["code"]["diff"]
    assert "echo begun" in entry["code"]["diff"]
    assert len(canaries) >= 30
    assert [(name, n) for name, data in contents.items() for n, text in enumerate(canaries) if text.encode() in data] == []
    # What a config says stands in the config, and where it is copied whole; nowhere else.
    holders = {name.name for name, data in contents.items() if in_config.encode() in data}
    assert holders <= {"config.yaml", "manifest.json"}


def test_everything_in_a_run_folder_is_its_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        done = ostinato(tmp_path, "train", str(DIGITS), *SHORT, "train.epochs=1", "data.loader_workers=1", "--nproc-per-node", "2")
    finally:
        os.umask(before)
    assert done.returncode == 0, done.stderr
    run = RunDir(tmp_path / "runs" / "digits")
    assert any(run.tensorboard.iterdir())
    open_ones = {str(p.relative_to(run.path)) for p in (run.path, *run.path.rglob("*")) if stat.S_IMODE(p.stat().st_mode) & 0o077}
    assert open_ones == set()


def test_rows_are_exactly_one_a_step_after_kills(tmp_path: Path) -> None:
    # Three starts of 24 steps at most do not come to the end, 78, and each comes to the step at which it is killed.
    command = ("train", str(DIGITS), *SHORT, slow_digits(free=24), "--nproc-per-node", "2")
    run = RunDir(tmp_path / "runs" / "digits")
    for attempt, step in enumerate((7, 20, 30)):
        process = start(tmp_path, *command)
        wait_for_step(run, step, process, attempt)
        os.kill(pid_of(run, 0), signal.SIGSTOP)  # no row comes between the look and the kill
        process.kill()
        process.communicate(timeout=60)
    hurry(tmp_path)
    done = ostinato(tmp_path, *command)
    assert done.returncode == 0, done.stderr
    steps = [row["step"] for row in read_jsonl(run.metrics) if row["split"] == "train" and "lr" in row]
    assert steps == list(range(1, steps[-1] + 1))
    assert steps[-1] == 3 * (1257 // 48)
