import json
import shlex
import subprocess
import sys

import pytest
import typer.main

from launcher.cli import app
from tests.support.command import command, environment, ostinato

CONFIG = """
model: {target: mlp, in_features: 64, num_classes: 10}
data: {train: {target: digits}, batch_size: 64}
optimizer: {target: sgd, lr: 0.1}
train: {epochs: 1}
"""
COMMANDS = [command.name or command.callback.__name__ for command in app.registered_commands]
PROBE = """
import sys
from launcher.cli import main
code = main()
print("loaded:", sorted({name.partition(".")[0] for name in sys.modules} & {"torch", "numpy", "torchvision", "pandas"}), file=sys.stderr)
sys.exit(code)
"""


def probe(arguments, cwd):
    """The command line in a fresh Python that says at its end which heavy packages it loaded."""
    return subprocess.run(
        [sys.executable, "-c", PROBE, *arguments], cwd=cwd, env=environment(), capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["schema"], ["train", "digits.yaml", "--dry-run"], ["train", "none.yaml"], ["train", "digits.yaml", "x=1"]],
    ids=" ".join,
)
def test_an_answer_that_trains_nothing_loads_no_torch_and_no_numpy(tmp_path, arguments):
    (tmp_path / "digits.yaml").write_text(CONFIG)
    done = probe(arguments, tmp_path)
    assert "loaded: []" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


def test_help_lists_every_command(tmp_path):
    done = ostinato("--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help(tmp_path, name):
    done = ostinato(name, "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"ostinato {name}" in done.stdout
    assert f"Examples:\n\n    ostinato {name}" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_of_a_commands_help_are_understood_by_it(name):
    known = typer.main.get_command(app).commands[name]
    examples = [line.strip() for line in known.epilog.splitlines() if line.startswith("  ")]
    assert len(examples) >= 2
    for example in examples:
        program, command, *words = shlex.split(example.partition(" > ")[0])
        assert (program, command) == ("ostinato", name)
        known.make_context(name, words)  # which parses, and carries out nothing


@pytest.mark.parametrize("arguments", [["trian"], ["train"], ["train", "x.yaml", "--nproc"], ["--nope"], []], ids=" ".join)
def test_wrong_usage_ends_with_2_and_points_to_the_help(tmp_path, arguments):
    done = ostinato(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert "Usage: ostinato" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_the_shell_can_complete_commands(tmp_path):
    extra = {"_OSTINATO_COMPLETE": "complete_bash", "COMP_WORDS": "ostinato tr", "COMP_CWORD": "1"}
    done = subprocess.run(command(), cwd=tmp_path, env=environment(**extra), capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == ["train"]


def test_a_dry_run_says_what_would_start_and_creates_nothing(tmp_path):
    (tmp_path / "digits.yaml").write_text(CONFIG)
    done = ostinato("train", "digits.yaml", "train.epochs=3", "--nproc-per-node", "2", "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "runs/digits" in done.stdout
    assert "train.epochs=3" in done.stdout
    assert "2 on this machine" in done.stdout
    assert [p.name for p in tmp_path.iterdir()] == ["digits.yaml"]


def test_a_dry_run_speaks_json(tmp_path):
    (tmp_path / "digits.yaml").write_text(CONFIG)
    done = ostinato("train", "digits.yaml", "--nproc-per-node", "2", "hardware.threads=3", "--dry-run", "--json", cwd=tmp_path)
    job = json.loads(done.stdout)
    assert job["workers"] == 2
    assert job["argv"][-2:] == ["trainer", "runs/digits"]
    assert job["env"]["OMP_NUM_THREADS"] == "3"


def test_json_without_a_dry_run_is_refused(tmp_path):
    (tmp_path / "digits.yaml").write_text(CONFIG)
    done = ostinato("train", "digits.yaml", "--json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "command line: --json: goes with --dry-run\n")


@pytest.mark.parametrize("number", ["0", "-1", "two", "1.5"])
def test_a_number_of_workers_that_is_none_is_refused(tmp_path, number):
    (tmp_path / "digits.yaml").write_text(CONFIG)
    done = ostinato("train", "digits.yaml", f"--nproc-per-node={number}", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == f"command line: --nproc-per-node={number}: must be auto or a whole number >= 1\n"
    assert not (tmp_path / "runs").exists()


def test_workers_that_cannot_share_the_virtual_ranks_are_refused_with_the_numbers_that_can(tmp_path):
    (tmp_path / "digits.yaml").write_text(CONFIG)
    done = ostinato("train", "digits.yaml", "train.virtual_ranks=8", "--nproc-per-node", "3", cwd=tmp_path)
    assert done.returncode == 2
    assert "use one of 1, 2, 4, 8" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_the_schema_is_json(tmp_path):
    done = ostinato("schema", cwd=tmp_path)
    assert "train" in json.loads(done.stdout)["properties"]
