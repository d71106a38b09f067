"""The Dockerfile as a text: a real linter reads it, and its two targets agree."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.jobs import ROOT

DOCKERFILE = ROOT / "docker" / "Dockerfile"


def lint(path: Path) -> subprocess.CompletedProcess[str]:
    """Hadolint's findings."""
    return subprocess.run([Path(sys.executable).with_name("hadolint"), path], capture_output=True, text=True)


def stages() -> dict[str, list[str]]:
    """Each stage's instructions, without comments, continued lines joined."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(encoding="utf-8"), flags=re.MULTILINE).replace("\\\n", "")
    found: dict[str, list[str]] = {}
    for line in filter(None, (re.sub(r"\s+", " ", line).strip() for line in text.splitlines())):
        if stage := re.fullmatch(r"FROM \S+ AS (\S+)", line):
            found[stage[1]] = []
        elif found:
            found[list(found)[-1]].append(line)
    return found


def test_the_linter_finds_nothing() -> None:
    done = lint(DOCKERFILE)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_linter_would_find_something(tmp_path: Path) -> None:
    worse = tmp_path / "Dockerfile"
    worse.write_text(DOCKERFILE.read_text(encoding="utf-8").replace('ENTRYPOINT ["ostinato"]', "ENTRYPOINT ostinato"))
    assert "DL3025" in lint(worse).stdout


@pytest.mark.parametrize("kind", ["", "-build"])
def test_the_targets_differ_only_in_what_a_gpu_needs(kind: str) -> None:
    found = stages()
    assert list(found) == ["cpu-build", "cpu", "cuda-build", "cuda"]
    gpu = r" (NVIDIA_\w+=\S+)"
    cpu = [re.sub(r"^ARG TORCH_INDEX=.*", "ARG TORCH_INDEX=", line).replace("cpu-build", "cuda-build") for line in found["cpu" + kind]]
    assert [re.sub(gpu, "", line) for line in found["cuda" + kind]] == cpu
    if not kind:
        assert len(re.findall(gpu, "\n".join(found["cuda"]))) == 2


def test_nothing_is_installed_that_is_not_pinned() -> None:
    script = (ROOT / "docker" / "install.sh").read_text(encoding="utf-8")
    installs = [line for line in script.splitlines() if "pip install" in line]
    assert len(installs) == 2
    assert "-c constraints.txt" in installs[0]
    assert "PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt" in installs[1]
    builds_it = re.findall(r"^requires = \[\"(\w+)", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert builds_it == ["setuptools"]
    assert re.search(r"^setuptools==", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    subprocess.run(["sh", "-n", ROOT / "docker" / "install.sh"], check=True)
