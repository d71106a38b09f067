"""The import rules of pyproject.toml hold, and would be noticed if they did not."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINT = "import sys; sys.path.insert(0, '.'); from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", LINT], cwd=folder, capture_output=True, text=True, timeout=120)


def test_imports_go_one_way() -> None:
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_module_of_the_launcher_but_the_agent_and_its_nodes_is_held_to_it() -> None:
    files = [*(ROOT / "launcher").glob("*.py"), *(path.parent for path in (ROOT / "launcher").glob("*/__init__.py"))]
    modules = {f"launcher.{path.stem}" for path in files} - {
        "launcher.__init__",
        "launcher.agent",
        "launcher.meeting",
        "launcher.nodes",
        "launcher.roll_call",
        "launcher.seats",
    }
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    contract = text.partition("only the agent and its nodes may import torch in the launcher")[2].partition("forbidden_modules")[0]
    assert set(re.findall(r"launcher\.\w+", contract)) == modules


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("trainer/loop.py", "import launcher.plan", "the trainer never imports the launcher"),
        ("launcher/plan.py", "import torch", "only the agent and its nodes may import torch in the launcher"),
        ("launcher/verify.py", "import torch", "only the agent and its nodes may import torch in the launcher"),
        ("launcher/forkserver.py", "import torch", "only the agent and its nodes may import torch in the launcher"),
        ("trainer/rundir.py", "import numpy", "config, run folder and errors are free of torch"),
        ("trainer/errors.py", "import trainer.seed", "config, run folder and errors are free of torch"),
    ],
)
def test_an_import_that_goes_the_other_way_is_noticed(tmp_path: Path, module: str, line: str, contract: str) -> None:
    for package in ("launcher", "trainer"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with open(tmp_path / module, "a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")
    done = lint(tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"{contract} BROKEN" in " ".join(done.stdout.split())
