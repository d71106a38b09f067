"""What `ostinato inspect` says of a run's checkpoints is what is on the disk."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from launcher.inspect import inspect
from tests.support.jobs import environment
from trainer.checkpoint import store
from trainer.errors import BAD_CHECKPOINT, BAD_CONFIG, DONE, RunFolderError
from trainer.rundir import RunDir

FACTS = {"epoch": 2, "saved": 1e9, "config": "c" * 64, "settings": {"optimizer": {"target": "sgd", "lr": 0.1}}, "weights": "w" * 64}


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A run with three checkpoints."""
    found = RunDir(tmp_path / "run")
    found.create()
    found.config.write_text("seed: 0\n")
    for step in (5, 10, 15):
        state = {"step": step, "model": {"layer.weight": torch.full((3, 4), float(step))}, "meters": torch.zeros(1, dtype=torch.float64)}
        name = store.write(found.checkpoints, state, FACTS)
    store.point(found.checkpoints, "last", name)
    store.point(found.checkpoints, "best", "step-00000010")
    return found


def flip(run: RunDir, name: str) -> None:
    path = run.checkpoints / name / store.STATE
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def rows(run: RunDir, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, dict[str, Any]]]:
    code = inspect(str(run.path), as_json=True)
    return code, {row["name"]: row for row in json.loads(capsys.readouterr().out)}


def test_each_checkpoint_is_listed_with_its_place_size_and_marks(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    assert inspect(str(run.path)) == DONE
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["checkpoint", "step", "epoch", "size", "saved", "at", "verified"]
    assert [line.split()[0] for line in lines] == store.names(run.checkpoints)
    assert [line.split()[-1] for line in lines] == ["yes", "best", "last"]
    code, found = rows(run, capsys)
    assert code == DONE
    size = sum(file.stat().st_size for file in (run.checkpoints / "step-00000010").iterdir())
    assert found["step-00000010"] == {
        **{"name": "step-00000010", "step": 10, "epoch": 2, "bytes": size, "saved": 1e9, "marks": ["best"], "fault": None}
    }


def test_an_altered_checkpoint_is_named_with_its_file_and_gives_3(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    flip(run, "step-00000010")
    assert inspect(str(run.path)) == BAD_CHECKPOINT
    *_, verdict = capsys.readouterr().out.splitlines()
    assert verdict.startswith("step-00000010: ")
    assert "state.pt: its content does not have the recorded SHA-256" in verdict
    code, found = rows(run, capsys)
    assert code == BAD_CHECKPOINT
    assert [name for name, row in found.items() if row["fault"]] == ["step-00000010"]


def test_one_that_was_set_aside_is_listed_and_does_not_count(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    flip(run, "step-00000015")
    store.set_aside(run.checkpoints, "step-00000015")
    code, found = rows(run, capsys)
    assert code == DONE
    assert found["bad-step-00000015"]["marks"] == ["refused"]
    assert "SHA-256" in found["bad-step-00000015"]["fault"]


@pytest.mark.parametrize("manifest", [b"", b"[]", b'{"files": {"state.pt": {"bytes": 1, "sha256": ""}}, "tensors": [1], "saved": "x"}'])
def test_a_manifest_that_says_nothing_useful_is_no_traceback(run: RunDir, capsys: pytest.CaptureFixture[str], manifest: bytes) -> None:
    (run.checkpoints / "step-00000005" / store.MANIFEST).write_bytes(manifest)
    assert inspect(str(run.path)) == BAD_CHECKPOINT
    assert inspect(str(run.path), checkpoint="step-00000005") == BAD_CHECKPOINT
    assert "verified: no: " in capsys.readouterr().out


@pytest.mark.parametrize("name", ["best", "step-00000010"])
def test_one_checkpoint_is_shown_with_its_settings_and_tensors(run: RunDir, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert inspect(str(run.path), checkpoint=name) == DONE
    text = capsys.readouterr().out
    assert text.startswith("step-00000010 best\nverified: yes\n")
    assert "lr: 0.1" in text
    assert "model.layer.weight  float32 [3, 4]" in text
    assert "meters              float64 [1]" in text
    assert inspect(str(run.path), checkpoint=name, as_json=True) == DONE
    found = json.loads(capsys.readouterr().out)
    assert found["manifest"]["settings"] == FACTS["settings"]
    assert (found["name"], found["fault"], found["marks"]) == ("step-00000010", None, ["best"])


def test_a_file_with_a_checkpoints_name_is_one_line(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    (run.checkpoints / "step-00000020").write_bytes(b"mine")
    assert inspect(str(run.path)) == BAD_CHECKPOINT
    *_, verdict = capsys.readouterr().out.splitlines()
    assert verdict.startswith(f"step-00000020: {run.checkpoints / 'step-00000020'}")
    assert "Directory" in verdict
    code, found = rows(run, capsys)
    assert (code, found["step-00000020"]["bytes"]) == (BAD_CHECKPOINT, 4)


def test_checkpoints_that_the_run_removes_meanwhile_are_left_out(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    done = threading.Event()

    def save_and_prune() -> None:
        number = 0
        while not done.is_set():
            number += 1
            new = run.checkpoints / f".partial-step-00000015.{number}"
            shutil.copytree(run.checkpoints / "step-00000015", new)
            new.rename(run.checkpoints / f"step-00000015.{number}")
            store.prune(run.checkpoints, last=1, every=None, protected=["step-00000015"])

    thread = threading.Thread(target=save_and_prune)
    thread.start()
    try:
        found = [rows(run, capsys) for _ in range(60)]
    finally:
        done.set()
        thread.join()
    assert {code for code, _ in found} == {DONE}
    assert all("step-00000015" in listed for _, listed in found)
    assert any("step-00000015." in "".join(listed) for _, listed in found)  # else nothing came and went


def test_a_manifest_is_read_once(run: RunDir) -> None:
    opened: list[str] = []
    watching = True
    sys.addaudithook(lambda event, given: opened.append(str(given[0])) if watching and event == "open" else None)
    assert inspect(str(run.path)) == DONE
    watching = False
    assert sorted(Path(path).parent.name for path in opened if path.endswith(store.MANIFEST)) == store.names(run.checkpoints)


def test_a_run_that_saved_nothing_yet_says_so(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    for name in store.names(run.checkpoints):
        (run.checkpoints / name).rename(run.path / name)
    assert inspect(str(run.path)) == DONE
    assert "no checkpoint yet" in capsys.readouterr().out
    assert rows(run, capsys) == (DONE, {})


@pytest.mark.parametrize("name", ["step-00000007", "../run", "best.json", ""])
def test_a_checkpoint_that_is_not_there_is_refused_with_those_that_are(run: RunDir, name: str) -> None:
    with pytest.raises(RunFolderError, match=r"step-00000005, step-00000010, step-00000015$"):
        inspect(str(run.path), checkpoint=name)


def test_the_command_answers_without_torch_and_refuses_what_is_no_run(run: RunDir, tmp_path: Path) -> None:
    probe = "import sys; from launcher.cli import main; code = main(); print('torch' in sys.modules, file=sys.stderr); sys.exit(code)"

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", probe, "inspect", *arguments], env=environment(), capture_output=True, text=True, timeout=60, check=False
        )

    done = command(str(run.path))
    assert (done.returncode, done.stderr) == (DONE, "False\n")
    assert done.stdout.count("yes") == 3
    refused = command(str(tmp_path))
    assert refused.returncode == BAD_CONFIG
    assert refused.stderr == f"ostinato: {tmp_path}: no run here (it has no config.yaml)\nFalse\n"
