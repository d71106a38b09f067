"""Tab, asked as the shells ask; and once in a real bash, with the script that is installed."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.jobs import environment

CONFIG = """\
model: {target: mlp, in_features: 64, num_classes: 10, hidden: 48}
data: {train: {target: digits}, batch_size: 32}
optimizer: {target: sgd, lr: 0.1}
train: {epochs: 1, amp: none}
"""
PROBE = """
import sys
from launcher.cli import main
code = main()
heavy = {name.partition(".")[0] for name in sys.modules} & {"torch", "numpy", "torchvision", "PIL"}
print("loaded:", sorted(heavy), file=sys.stderr)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Configs, profiles, and runs as far as a completion looks at them."""
    folder = tmp_path_factory.mktemp("tab")
    for name in ("configs/mine.yaml", "configs/other.yml", "configs/notes.txt", "slurm/gpu.yaml"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(CONFIG)
    for run in ("runs/mine", "runs/mine-2", "runs/sweep/lr-0.1", "runs/with space"):
        (folder / run / "checkpoints" / "step-00000012").mkdir(parents=True)
        (folder / run / "config.yaml").write_text(CONFIG)
    (folder / "runs" / "junk").mkdir()
    (folder / ".hidden" / "runs").mkdir(parents=True)
    return folder


def bash(folder: Path, *words: str) -> list[str]:
    """What bash is offered for the last word; it takes words apart at ``=``."""
    asked = {"_OSTINATO_COMPLETE": "complete_bash", "COMP_WORDS": "\n".join(("ostinato", *words)), "COMP_CWORD": str(len(words))}
    done = subprocess.run(
        [sys.executable, "-c", PROBE], cwd=folder, env=environment(**asked), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == "loaded: []\n"
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("evaluate", ""), ["runs/mine", "runs/mine-2", "runs/sweep/lr-0.1"]),
        (("status", "runs/mine", "runs/mine-"), ["runs/mine-2"]),
        (("report", "runs/mine", "runs/s"), ["runs/sweep/lr-0.1"]),
        (("diff", "runs/mine", "runs/mine-"), ["runs/mine-2"]),
        (("train", "conf"), ["configs/mine.yaml", "configs/other.yml"]),
        (("inspect", ""), ["data", "runs/mine", "runs/mine-2", "runs/sweep/lr-0.1"]),
        (("inspect", "data", "configs/o"), ["configs/other.yml"]),
        (("evaluate", "runs/mine", "--checkpoint", ""), ["best", "last", "step-00000012"]),
        (("evaluate", "runs/mine", "--split", "t"), ["test", "train"]),
        (("export", "runs/mine", "--format", "s"), ["safetensors"]),
        (("submit", "configs/mine.yaml", "--profile", ""), ["gpu"]),
        (("init", "ci"), ["cifar10", "cifar100"]),
        (("train", "configs/mine.yaml", "optim"), ["optimizer.lr=", "optimizer.target="]),
        (("train", "configs/mine.yaml", "model.hi"), ["model.hidden=", "model.hidden=48"]),
        (("train", "configs/mine.yaml", "model.hidden", "="), ["48"]),
        (("train", "configs/mine.yaml", "train.amp", "=", "b"), ["bf16"]),
        (("train", "configs/mine.yaml", "seed", "=", "3", "optimizer.target", "=", "adam"), ["adam", "adamw"]),
        (("inspect", "data", "configs/mine.yaml", "data.drop_last", "="), ["true", "false"]),
        (("train", "missing.yaml", "train.epo"), ["train.epochs="]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_stands_in_the_folder_is_offered_without_torch(folder: Path, words: tuple[str, ...], offered: list[str]) -> None:
    assert bash(folder, *words) == offered


def test_nothing_is_offered_where_nothing_fits_so_that_the_shell_completes_files(folder: Path) -> None:
    assert bash(folder, "train", "zzz") == []


def test_zsh_and_fish_get_whole_words(folder: Path) -> None:
    asked = {"_TYPER_COMPLETE_ARGS": "ostinato train configs/mine.yaml optimizer.target=adam", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    for shell in ("zsh", "fish"):
        done = subprocess.run(
            [sys.executable, "-m", "launcher"],
            cwd=folder,
            env=environment(**asked, _OSTINATO_COMPLETE=f"complete_{shell}"),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "optimizer.target=adamw" in done.stdout, done.stderr


def test_a_real_bash_completes_with_the_script_that_is_installed(folder: Path, tmp_path: Path) -> None:
    home, tools = tmp_path / "home", tmp_path / "bin"
    home.mkdir()
    tools.mkdir()
    (tools / "ostinato").write_text(f'#!/bin/sh\nexec {sys.executable} -m launcher "$@"\n')
    (tools / "ostinato").chmod(0o755)
    variables = environment(HOME=str(home), PATH=f"{tools}{os.pathsep}{os.environ['PATH']}", TERM="dumb", INPUTRC="/dev/null")
    (home / ".bashrc").write_text("PS1='> '\n")
    install = "ostinato --install-completion bash || ostinato --install-completion; true"
    done = subprocess.run(["bash", "-c", install], cwd=folder, env=variables, capture_output=True, text=True, timeout=60, check=False)
    assert "completion installed" in done.stdout, done.stderr
    shown = subprocess.run(["bash", "-c", "ostinato --show-completion; true"], env=variables, capture_output=True, text=True, timeout=60)
    assert "_OSTINATO_COMPLETE=complete_bash" in shown.stdout, shown.stderr
    with Terminal(["bash", "--rcfile", str(home / ".bashrc"), "-i"], folder, variables) as bash_:
        bash_.type("ostinato eval\t", "evaluate ")
        bash_.type("ru\t", "runs/")
        bash_.type("sw\t", "runs/sweep/lr-0.1 ")
        bash_.type("\x15ostinato train configs/m\t", "configs/mine.yaml ")
        bash_.type("optimizer.l\t", "optimizer.lr=")
        bash_.type("\t", "optimizer.lr=0.1 ")


class Terminal:
    """A program in a terminal of its own.

    Args:
        command: the program.
        folder: where it runs.
        variables: its environment.
    """

    def __init__(self, command: list[str], folder: Path, variables: dict[str, str]) -> None:
        self.screen, self.ours = "", -1
        self.ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            command, cwd=folder, env=variables, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, close_fds=True
        )
        os.close(theirs)

    def __enter__(self) -> Terminal:
        self.type("", "> ")
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(timeout=30)
        os.close(self.ours)

    def type(self, keys: str, expected: str) -> None:
        """Press keys, and wait until the line that is being typed ends as expected."""
        os.write(self.ours, keys.encode())
        limit = time.monotonic() + 60
        while not self.screen.endswith(expected):
            assert time.monotonic() < limit, f"expected {expected!r}, and the screen shows {self.screen!r}"
            if select.select([self.ours], [], [], 1)[0]:
                self.screen += os.read(self.ours, 65536).decode(errors="replace").replace("\x07", "")
