"""Checkpoints that something has damaged: never loaded, each named in one line, and the newest untouched one is used."""

from __future__ import annotations

import pickle
import random
import shutil
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from tests.chaos import saves
from tests.chaos.damage import DAMAGES, swap
from tests.chaos.result import Result
from tests.support.file_faults import Disk
from trainer.checkpoint import store
from trainer.errors import CheckpointError
from trainer.rundir import RunDir

STEPS = (10, 20, 30, 40)
FACTS = {"epoch": 1, "config": "0" * 64}


def corruption(seed: int, count: int = 650) -> Result:
    """`count` damaged checkpoints in folders of four; besides, swapped files, bad sectors, edited pointers and pickle payloads."""
    chosen, failures, seen, damaged, wanted = random.Random(seed), [], Counter[str](), 0, 0
    with saves.scratch() as scratch:
        good = saves.new_run(scratch / "good")
        names = [store.write(good.checkpoints, saves.state(step, 700), FACTS) for step in STEPS]
        store.point(good.checkpoints, "last", names[-1])
        while damaged < count:
            run = saves.copy_of(good, scratch / "case")
            what, named = _damage(run, chosen, count - damaged)
            damaged, wanted = damaged + len(named), wanted + max(1, len(named))
            seen.update({what: max(1, len(named))})
            if fault := judge(run, named):
                failures.append(f"seed {seed}, after {damaged} damaged, {what}: {fault}")
        for what, fault in _special(good, scratch, chosen):
            wanted += 1
            seen[what] += 1
            if fault is not None:
                failures.append(f"seed {seed}, {what}: {fault}")
    notes = f"{damaged} damaged; " + ", ".join(f"{what} {number}" for what, number in seen.most_common())
    return Result("corruption", wanted, max(0, wanted - len(failures)), failures, notes)


def _damage(run: RunDir, chosen: random.Random, most: int) -> tuple[str, dict[str, Path]]:
    """Damage the newest checkpoint, or several of the newest; what was done, and the file to be named of each."""
    if chosen.random() < 0.05:
        return swap(run, chosen)
    what = chosen.choices(list(DAMAGES), [share for share, _ in DAMAGES.values()])[0]
    number = min(most, chosen.choice([1, 1, 1, 2, 3, 4]))
    newest = store.names(run.checkpoints)[::-1][:number]
    return what, {name: DAMAGES[what][1](run.checkpoints / name, chosen) for name in newest}


def judge(run: RunDir, named: dict[str, Path]) -> str | None:
    """What is wrong with how a folder is read in which these are damaged; None: nothing."""
    folder = run.checkpoints
    untouched = [name for name in store.names(folder) if name not in named]
    try:
        found, complaints = store.newest_good(folder)
    except Exception as fault:
        return f"newest_good raises {type(fault).__name__}: {str(fault)[:100]}"
    if found != (untouched[-1] if untouched else None):
        return f"newest_good gives {found}"
    newer = [name for name in named if found is None or saves.order(name) > saves.order(found)]
    for name in newer:
        lines = [line for line in complaints if str(named[name]) in line]
        if len(lines) != 1 or "\n" in lines[0]:
            return f"{named[name].relative_to(folder)} is named in {len(lines)} lines: {complaints}"
    if len(complaints) != len(newer):
        return f"{len(complaints)} lines for {len(newer)} checkpoints"
    for name in named:
        if what := _loads(folder / name):
            return what
    return saves.defect(folder / found) if found else None


def _loads(checkpoint: Path) -> str | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch wonders about a strange pickle
            store.load(checkpoint)
    except CheckpointError as fault:
        return f"the error has several lines: {str(fault)[:200]!r}" if "\n" in str(fault) else None
    except Exception as fault:
        return f"load raises {type(fault).__name__}: {str(fault)[:100]}"
    return f"{checkpoint.name} is loaded"


def _special(good: RunDir, scratch: Path, chosen: random.Random) -> list[tuple[str, str | None]]:
    """The cases that are no damage of a file's bytes."""
    cases = [("bad sector", _bad_sector(saves.copy_of(good, scratch / "case"), file)) for file in (store.STATE, store.MANIFEST)]
    pointers = [
        b"",
        b"{",
        b"[]",
        b'{"checkpoint": 3}',
        b'{"checkpoint": "step-00000099"}',
        b'{"checkpoint": "../x"}',
        bytes(50),
        b"[" * 100_000,
    ]
    for content in pointers:
        run = saves.copy_of(good, scratch / "case")
        (run.checkpoints / "last.json").write_bytes(content)
        cases.append(("edited last.json", judge(run, {}) or _points(run)))
    for name, payload in PAYLOADS.items():
        cases.append((f"payload {name}", payload_runs(scratch / "payload", payload)))
    cases.append(
        ("payload (control)", None if payload_is_alive(scratch) else "unpickled without care it does not run, so nothing is proved")
    )
    return cases


def _points(run: RunDir) -> str | None:
    try:
        name = store.pointed(run.checkpoints, "last")
    except Exception as fault:
        return f"pointed raises {type(fault).__name__}: {str(fault)[:100]}"
    return None if name is None else f"it points to {name}"


def _bad_sector(run: RunDir, file: str) -> str | None:
    """EIO where the newest checkpoint's file is read."""
    newest = run.checkpoints / store.names(run.checkpoints)[-1]
    with Disk(run.path, unreadable=frozenset({newest / file})).installed():
        return judge(run, {newest.name: newest / file})


class _Payload:
    """Unpickled without care, it makes a file."""

    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.sentinel,)


def _zip_with(hidden: Callable[[_Payload], Any]) -> Callable[[_Payload, Any], None]:
    real = torch.save
    return lambda payload, file: real(hidden(payload), file)


def _plain(protocol: int) -> Callable[[_Payload, Any], None]:
    return lambda payload, file: file.write(pickle.dumps(payload, protocol=protocol))


PAYLOADS: dict[str, Callable[[_Payload, Any], None]] = {
    **{f"pickle {protocol}": _plain(protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)},
    "as the state": _zip_with(lambda payload: payload),
    "in the state": _zip_with(lambda payload: {**saves.state(40, 700), "more": payload}),
    "as a key": _zip_with(lambda payload: {**saves.state(40, 700), "optimizer": {(payload,): 1}}),
}


def payload_runs(folder: Path, payload: Callable[[_Payload, Any], None]) -> str | None:
    """What is wrong with how a checkpoint is read whose state is a payload, and whose manifest is right."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    sentinel = folder / "it-ran"
    # The saver is the real one, so that the manifest is right in everything; only what is serialised is another's.
    with mock.patch.object(torch, "save", lambda _, file: payload(_Payload(sentinel), file)):
        name = store.write(folder, saves.state(40, 700), FACTS)
    if store.newest_good(folder) != (name, []):
        return f"the manifest is not right, so nothing is proved: {store.newest_good(folder)}"
    what = _loads(folder / name)
    return "the payload ran" if sentinel.exists() else what


def payload_is_alive(folder: Path) -> bool:
    """Control: unpickled without care, the payload does run."""
    sentinel = folder / "it-ran"
    pickle.loads(pickle.dumps(_Payload(sentinel)))
    return sentinel.exists()
