"""Ways in which a checkpoint comes to harm. Each says which of its files a reader has to name."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.chaos import saves
from tests.chaos.saves import Save
from trainer.checkpoint import store
from trainer.rundir import RunDir

PAGE = 4096

Damage = Callable[[Path, random.Random], Path]
"""Damages a checkpoint, and says which file of it must be named."""


def _either(checkpoint: Path, chosen: random.Random) -> Path:
    """The state or, less often, the manifest."""
    return checkpoint / (store.STATE if chosen.random() < 0.7 else store.MANIFEST)


def flip(checkpoint: Path, chosen: random.Random) -> Path:
    """One bit, or a few, anywhere in a file."""
    path = _either(checkpoint, chosen)
    content = bytearray(path.read_bytes())
    for bit in chosen.sample(range(8 * len(content)), chosen.choice([1, 1, 2, 8])):
        content[bit // 8] ^= 1 << bit % 8
    return _put(path, bytes(content))


def cut(checkpoint: Path, chosen: random.Random) -> Path:
    """A file's end is gone."""
    path = _either(checkpoint, chosen)
    content = path.read_bytes().rstrip(b"\n")
    return _put(path, content[: chosen.choice([0, len(content) - 1, chosen.randrange(len(content))])])


def zero_page(checkpoint: Path, chosen: random.Random) -> Path:
    """A page or a sector of zeros where the state was."""
    path = checkpoint / store.STATE
    content, size = path.read_bytes(), chosen.choice([512, PAGE])
    while True:
        begin = chosen.randrange(0, len(content), size)
        zeros = content[:begin] + bytes(len(content[begin : begin + size])) + content[begin + size :]
        if zeros != content:
            return _put(path, zeros)


def append(checkpoint: Path, chosen: random.Random) -> Path:
    """Something behind a file's end."""
    path = _either(checkpoint, chosen)
    return _put(path, path.read_bytes() + chosen.choice([b"\0", b"x", bytes(PAGE), b"{}", path.read_bytes()]))


def another_state(checkpoint: Path, chosen: random.Random) -> Path:
    """The state of another step."""
    torch.save(saves.state(chosen.choice([5, 50]), 700), checkpoint / store.STATE)
    return checkpoint / store.STATE


def bad_manifest(checkpoint: Path, chosen: random.Random) -> Path:
    """A manifest that is no manifest, or says what is not so; half of those that have a seal have a right one."""
    path = checkpoint / store.MANIFEST
    good = json.loads(path.read_bytes())
    size, entry = good["files"][store.STATE]["bytes"], good["files"][store.STATE]
    # What is changed, and the file that a reader has to name where the seal is right.
    changed: list[tuple[dict[str, Any], Path]] = [
        ({key: value for key, value in good.items() if key != "files"}, path),
        ({key: value for key, value in good.items() if key != "step"}, path),
        ({**good, "files": {}}, path),
        ({**good, "files": {store.STATE: {}}}, path),
        ({**good, "files": {store.STATE: "x"}}, path),
        ({**good, "files": {store.STATE: {**entry, "bytes": size + 1}}}, checkpoint / store.STATE),
        ({**good, "files": {store.STATE: {**entry, "sha256": "0" * 64}}}, checkpoint / store.STATE),
        *(({**good, "files": {**good["files"], name: entry}}, checkpoint / name) for name in ("more.pt", "../x", "x" * 300, "a\0b")),
        ({**good, "step": good["step"] + 1}, path),
    ]
    if chosen.random() < 0.5:
        value, named = chosen.choice(changed)
        path.write_text(json.dumps({**value, "seal": store.seal(value)}))
        return named
    others = [{**good, "epoch": good["epoch"] + 1}, {**good, "config": "f" * 64}, [good], None, "text", 10**400]
    texts = [json.dumps(value).encode() for value in [*(value for value, _ in changed), *others]]
    texts += [b"", b"{", b"\xff\xfe", bytes(300), b"[" * 100_000, b"1" * 10_000, b"NaN"]
    texts.append(json.dumps(good).replace(f'"bytes": {size}', '"bytes": 1e999').encode())
    path.write_bytes(chosen.choice(texts))
    return path


def missing(checkpoint: Path, chosen: random.Random) -> Path:
    """A file is gone."""
    path = checkpoint / chosen.choice([store.STATE, store.MANIFEST])
    path.unlink()
    return path


def folder_for_file(checkpoint: Path, chosen: random.Random) -> Path:
    """A folder is where a file was."""
    path = missing(checkpoint, chosen)
    path.mkdir()
    return path


def empty(checkpoint: Path, chosen: random.Random) -> Path:
    """The folder is there, and nothing in it."""
    shutil.rmtree(checkpoint)
    checkpoint.mkdir()
    return checkpoint / store.MANIFEST


def file_for_folder(checkpoint: Path, chosen: random.Random) -> Path:
    """A file has the checkpoint's name."""
    shutil.rmtree(checkpoint)
    checkpoint.write_bytes(b"x")
    return checkpoint / store.MANIFEST


def another_checkpoint(checkpoint: Path, chosen: random.Random) -> Path:
    """An older checkpoint, whole, under a newer one's name."""
    shutil.rmtree(checkpoint)
    saves.new_run(checkpoint.parent / "elsewhere", Save(5, 700))
    (checkpoint.parent / "elsewhere" / "checkpoints" / "step-00000005").rename(checkpoint)
    shutil.rmtree(checkpoint.parent / "elsewhere")
    return checkpoint / store.MANIFEST


DAMAGES: dict[str, tuple[int, Damage]] = {
    "flip": (8, flip),
    "cut": (4, cut),
    "zero page": (3, zero_page),
    "append": (3, append),
    "another state": (1, another_state),
    "bad manifest": (8, bad_manifest),
    "missing": (2, missing),
    "folder for a file": (1, folder_for_file),
    "empty": (1, empty),
    "file for the folder": (1, file_for_folder),
    "another checkpoint": (1, another_checkpoint),
}
"""The share of each."""


def _put(path: Path, content: bytes) -> Path:
    assert content != path.read_bytes()
    path.write_bytes(content)
    return path


def swap(run: RunDir, chosen: random.Random) -> tuple[str, dict[str, Path]]:
    """The newest two exchange their states or manifests, or their names."""
    older, newer = (run.checkpoints / name for name in store.names(run.checkpoints)[-2:])
    file = chosen.choice([store.STATE, store.MANIFEST, ""])
    aside = run.checkpoints / "aside"
    (newer / file).rename(aside)
    (older / file).rename(newer / file)
    aside.rename(older / file)
    return f"swap of {file or 'names'}", {path.name: path / (store.MANIFEST if not file else "") for path in (older, newer)}
