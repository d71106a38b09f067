"""A checkpoint is there whole or not at all, and one that was touched is never loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from trainer.checkpoint import store
from trainer.errors import CheckpointError


def state(step: int) -> dict[str, Any]:
    return {"step": step, "model": {"weight": torch.full((100,), float(step))}, "none": None, "list": [1, 2.5, "text"]}


def write(folder: Path, *steps: int) -> list[str]:
    return [store.write(folder, state(step), {"weights": "…"}) for step in steps]


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    (name,) = write(tmp_path, 7)
    assert name == "step-00000007"
    found = store.load(tmp_path / name)
    assert torch.equal(found["model"]["weight"], torch.full((100,), 7.0))
    assert (found["step"], found["none"], found["list"]) == (7, None, [1, 2.5, "text"])


def test_a_second_checkpoint_of_a_step_stands_beside_the_first(tmp_path: Path) -> None:
    assert write(tmp_path, 7, 7, 12, 9) == ["step-00000007", "step-00000007.1", "step-00000012", "step-00000009"]
    assert store.names(tmp_path) == ["step-00000007", "step-00000007.1", "step-00000009", "step-00000012"]


def test_one_flipped_bit_anywhere_in_the_state_is_found(tmp_path: Path) -> None:
    (name,) = write(tmp_path, 1)
    path = tmp_path / name / store.STATE
    good = path.read_bytes()
    for place in range(0, len(good), max(1, len(good) // 50)):
        bad = bytearray(good)
        bad[place] ^= 1
        path.write_bytes(bad)
        with pytest.raises(CheckpointError, match=r"state\.pt.*SHA-256"):
            store.load(tmp_path / name)
    path.write_bytes(good)
    assert store.load(tmp_path / name)["step"] == 1


@pytest.mark.parametrize(
    "manifest",
    [b"", b"{", b"[]", b'"text"', b"{}", b'{"files": {}}', b'{"files": {"state.pt": {}}}', b"\xff\xfe", b'{"files": {"../x": 1}}'],
)
def test_a_manifest_that_says_nothing_useful_makes_the_checkpoint_unusable(tmp_path: Path, manifest: bytes) -> None:
    (name,) = write(tmp_path, 1)
    (tmp_path / name / store.MANIFEST).write_bytes(manifest)
    with pytest.raises(CheckpointError, match=r"manifest\.json"):
        store.load(tmp_path / name)


def test_the_newest_good_checkpoint_is_found_behind_bad_ones_and_each_bad_one_is_named(tmp_path: Path) -> None:
    names = write(tmp_path, 1, 2, 3)
    (tmp_path / names[2] / store.STATE).write_bytes(b"short")
    (tmp_path / names[1] / store.MANIFEST).unlink()
    found, complaints = store.newest_good(tmp_path)
    assert found == names[0]
    assert len(complaints) == 2
    assert names[2] in complaints[0]
    assert names[1] in complaints[1]


def test_a_folder_that_was_left_half_written_is_no_checkpoint_and_the_next_write_removes_it(tmp_path: Path) -> None:
    half = tmp_path / ".partial-step-00000005"
    half.mkdir()
    (half / store.STATE).write_bytes(b"half")
    assert store.names(tmp_path) == []
    write(tmp_path, 5)
    assert not half.exists()
    assert store.names(tmp_path) == ["step-00000005"]


class Bomb:
    """What an attacker would put into a checkpoint."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("exploded"),))


def test_a_checkpoint_that_holds_code_is_refused_and_the_code_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (name,) = write(tmp_path, 1)
    path = tmp_path / name / store.STATE
    torch.save({"step": 1, "model": Bomb()}, path)
    manifest = json.loads((tmp_path / name / store.MANIFEST).read_text())
    manifest["files"][store.STATE] = {"bytes": path.stat().st_size, "sha256": store.digest(path)}
    (tmp_path / name / store.MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="cannot be read"):
        store.load(tmp_path / name)
    assert not (tmp_path / "exploded").exists()


def test_pruning_keeps_the_newest_the_best_and_the_milestones(tmp_path: Path) -> None:
    names = write(tmp_path, 1, 2, 3, 4, 5, 6)
    store.point(tmp_path, "best", names[1], value=0.9)
    store.prune(tmp_path, last=2, every=3, protected=[names[1]])
    assert [store.step_of(name) for name in store.names(tmp_path)] == [2, 3, 5, 6]
    assert store.pointed(tmp_path, "best") == names[1]
    assert not list(tmp_path.glob(".partial*"))


def test_a_pointer_to_a_checkpoint_that_is_gone_points_nowhere(tmp_path: Path) -> None:
    (name,) = write(tmp_path, 1)
    store.point(tmp_path, "last", name)
    assert store.pointed(tmp_path, "last") == name
    (tmp_path / "last.json").write_text('{"checkpoint": "../../etc"}')
    assert store.pointed(tmp_path, "last") is None
    assert store.pointed(tmp_path, "best") is None
