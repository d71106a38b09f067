"""A bad config through the real command line: one line for each problem, with its place, exit code 2, and nothing is created."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.cli import answer
from tests.support.broken_configs import BROKEN, BrokenConfig
from tests.support.jobs import environment, ostinato

PLACE = re.compile(r"^[^:]+:\d+: |^command line: ")


def test_the_table_has_forty_of_them() -> None:
    assert len(BROKEN) >= 40
    assert {broken.stage for broken in BROKEN} == {"schema", "target"}


# An override that begins with a dash never reaches the config: it is an option that does not exist.
TYPED = [broken for broken in BROKEN if not any(override.startswith("-") for override in broken.overrides)]


SCHEMA = [broken for broken in TYPED if broken.stage == "schema"]
TARGET = [broken for broken in TYPED if broken.stage == "target"]


@pytest.mark.parametrize("broken", SCHEMA, ids=lambda broken: broken.name)
def test_what_the_schema_can_see_is_refused_in_one_line_with_its_place_and_nothing_is_created(
    tmp_path: Path, broken: BrokenConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.yaml").write_text(broken.text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["ostinato", "train", "broken.yaml", *broken.overrides])
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert answer() == 2
    out, err = capsys.readouterr()
    check(broken, out, err, tmp_path)


@pytest.mark.parametrize("broken", [SCHEMA[0], *TARGET], ids=lambda broken: broken.name)
def test_what_takes_a_targets_signature_is_refused_by_a_process_of_its_own_in_the_same_way(tmp_path: Path, broken: BrokenConfig) -> None:
    (tmp_path / "broken.yaml").write_text(broken.text, encoding="utf-8")
    done = ostinato(tmp_path, "train", "broken.yaml", *broken.overrides)
    assert done.returncode == 2, done.stderr
    check(broken, done.stdout, done.stderr, tmp_path)


def check(broken: BrokenConfig, out: str, err: str, folder: Path) -> None:
    assert out == ""
    lines = err.splitlines()
    assert lines
    assert all(PLACE.match(line) for line in lines), lines
    assert any(broken.fragment in line for line in lines), lines
    if broken.line is not None:
        assert any(line.startswith(f"broken.yaml:{broken.line}: ") for line in lines), lines
    assert "Traceback" not in err
    assert [path.name for path in folder.iterdir()] == ["broken.yaml"]


def test_plain_torchrun_refuses_a_bad_config_as_well_and_one_rank_says_so(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("model: {target: mlp}\n")
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "trainer", "broken.yaml"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode != 0
    said = [line for line in (done.stdout + done.stderr).splitlines() if "broken.yaml:" in line]
    assert said == [
        "broken.yaml:1: data: missing; it must be a section of 'key: value' lines",
        "broken.yaml:1: optimizer: missing; it must be a mapping with a target, such as {target: name}",
        "broken.yaml:1: train: missing; it must be a section of 'key: value' lines",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["broken.yaml"]


def test_what_the_schema_can_see_is_answered_without_torch(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("model: {target: mlp}\ntrain: {epoch: 3}\n")
    code = "import sys; from launcher.cli import answer; code = answer(); print('torch' in sys.modules); sys.exit(code)"
    done = subprocess.run(
        [sys.executable, "-c", code, "train", "broken.yaml"], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert done.stdout == "False\n"
    assert "did you mean 'epochs'?" in done.stderr
