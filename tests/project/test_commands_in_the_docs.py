"""Every command that the documentation shows is run here, page by page, as a reader would type them one after another."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.jobs import ROOT, environment

# Pages whose commands need a container engine or a cluster: tests/containers and tests/slurm type them.
OTHERS = ("containers.md", "slurm.md")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(page for page in (ROOT / "docs").glob("*.md") if page.name not in OTHERS)]
# What makes or uses an environment of its own, which .ci/run does, and the storm, whose scenarios tests/chaos runs.
ELSEWHERE = re.compile(r"^(make|git|python3 -m venv|\.venv/bin/|python -m tests\.chaos)")


def commands(page: Path) -> list[str]:
    """The lines after ``$`` in the page's console blocks, without what stands behind a ``#``."""
    blocks = re.findall(r"```console\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    lines = [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    return [re.sub(r"\s+#.*", "", line) for line in lines]


def test_the_pages_show_commands() -> None:
    assert len(commands(ROOT / "README.md")) >= 10


@pytest.mark.timeout(900)  # a page is many runs
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_of_a_page_work_one_after_another(page: Path, tmp_path: Path) -> None:
    for folder in ("configs", "examples"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    for name, module in {"ostinato": "launcher", "torchrun": "torch.distributed.run", "python": None}.items():
        words = f"{sys.executable} -m {module}" if module else sys.executable
        (bin_folder / name).write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        (bin_folder / name).chmod(0o755)
    path = f"{bin_folder}{os.pathsep}{os.environ['PATH']}"
    for command in commands(page):
        if ELSEWHERE.match(command):
            continue
        done = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, env=environment(PATH=path), capture_output=True, text=True, timeout=280
        )
        assert done.returncode == 0, f"{page.name}: $ {command}\n{done.stdout}{done.stderr}"
