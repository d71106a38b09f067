"""A checkpoint is there whole or not at all, and one that was touched is never loaded."""

from __future__ import annotations

import json
from collections import Counter, OrderedDict, namedtuple
from pathlib import Path
from typing import Any

import numpy as np
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
    [
        *[b"[" * 100_000, b'{"files": {"state.pt": {"bytes": Infinity, "sha256": ""}}}', b'{"files": [1]}', b'{"files": "state.pt"}'],
        *[b"", b"{", b"[]", b'"text"', b"{}", b'{"files": {}}', b'{"files": {"state.pt": {}}}', b"\xff\xfe", b'{"files": {"../x": 1}}'],
    ],
    ids=range(13),
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
    (tmp_path / name / store.MANIFEST).write_text(json.dumps({**manifest, "seal": store.seal(manifest)}))
    with pytest.raises(CheckpointError, match="never unpickled"):
        store.load(tmp_path / name)
    assert not (tmp_path / "exploded").exists()


def test_pruning_keeps_the_newest_the_best_and_the_milestones(tmp_path: Path) -> None:
    names = write(tmp_path, 1, 2, 3, 4, 5, 6)
    store.point(tmp_path, "best", names[1], value=0.9)
    store.prune(tmp_path, last=2, every=3, protected=[names[1]])
    assert [store.step_of(name) for name in store.names(tmp_path)] == [2, 3, 5, 6]
    assert store.pointed(tmp_path, "best") == names[1]
    assert not list(tmp_path.glob(".partial*"))


def test_the_checkpoint_just_written_survives_a_damaged_one_with_a_higher_step(tmp_path: Path) -> None:
    old, damaged = write(tmp_path, 1, 9)
    (tmp_path / damaged / store.STATE).write_bytes(b"short")
    (new,) = write(tmp_path, 2)
    store.prune(tmp_path, last=1, every=None, protected=[new])
    assert store.names(tmp_path) == [new, damaged]
    assert store.newest_good(tmp_path)[0] == new
    assert not (tmp_path / old).exists()


def test_a_checkpoint_set_aside_no_longer_counts_and_nothing_set_aside_before_is_lost(tmp_path: Path) -> None:
    for content in (b"first", b"second", b"third"):
        (name,) = write(tmp_path, 5)
        (tmp_path / name / store.STATE).write_bytes(content)
        store.set_aside(tmp_path, name)
        assert store.names(tmp_path) == []
    found = {path.name: (path / store.STATE).read_bytes() for path in tmp_path.iterdir()}
    assert found == {"bad-step-00000005": b"first", "bad-step-00000005.1": b"second", "bad-step-00000005.2": b"third"}
    write(tmp_path, 5)
    store.prune(tmp_path, last=1, every=None, protected=[])
    assert len(list(tmp_path.iterdir())) == 4


Pair = namedtuple("Pair", "a b")


class Held(OrderedDict[str, Any]):
    """A dictionary that `load` would refuse."""


def with_metadata(value: object) -> OrderedDict[str, Any]:
    """What a model's state_dict looks like."""
    found: OrderedDict[str, Any] = OrderedDict(weight=torch.zeros(2))
    found._metadata = {"layer": value}  # type: ignore[attr-defined]
    return found


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({"optimizer": {"state": {0: {"x": np.float64(1)}}}}, r"optimizer\.state\.0\.x is a numpy\.float64"),
        ({"list": [1, (2, {3})]}, r"list\.1\.1 is a set"),
        ({"path": Path("x")}, r"path is a pathlib\."),
        ({"pair": Pair(1, 2)}, r"pair is a .*Pair"),
        ({"held": Held(a=1)}, r"held is a .*Held"),
        ({"rate": lambda step: 1}, "rate is a function"),
        ({"table": {(1, 2): 3}}, "table has a key of type tuple"),
        ({"model": with_metadata(object())}, r"model\._metadata\.layer is a object"),
        ({"bomb": Bomb()}, r"bomb is a .*Bomb"),
    ],
)
def test_what_could_not_be_read_back_is_refused_before_anything_is_written(tmp_path: Path, extra: dict[str, Any], said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        store.write(tmp_path, {**state(1), **extra}, {})
    assert list(tmp_path.iterdir()) == []


def test_a_real_model_optimizer_and_scheduler_are_plain_enough(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.zeros(4, 2)).sum().backward()
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 2, 3])
    parts = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "schedule": scheduler.state_dict()}
    name = store.write(tmp_path, {"step": 1, **parts, "parameter": next(model.parameters())}, {})
    found = store.load(tmp_path / name)
    assert found["schedule"]["milestones"] == Counter({2: 2, 3: 1})
    assert torch.equal(found["optimizer"]["state"][0]["exp_avg"], optimizer.state_dict()["state"][0]["exp_avg"])


def test_a_pointer_to_a_checkpoint_that_is_gone_points_nowhere(tmp_path: Path) -> None:
    (name,) = write(tmp_path, 1)
    store.point(tmp_path, "last", name)
    assert store.pointed(tmp_path, "last") == name
    (tmp_path / "last.json").write_text('{"checkpoint": "../../etc"}')
    assert store.pointed(tmp_path, "last") is None
    assert store.pointed(tmp_path, "best") is None
