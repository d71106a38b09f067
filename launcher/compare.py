"""Two runs: where and why they part. It reads run folders only, so it needs no torch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from trainer.config.load import load
from trainer.errors import DIFFERENT, DONE
from trainer.rundir import RunDir, read_json, read_jsonl

# A row of metrics is looked at in this order: what comes first in a step is the cause of what comes later.
COMPARED = ("loss", "grad_norm", "fingerprint", "accuracy", "lr")
VERSIONS = ("python", "ostinato", "torch", "numpy", "cuda", "cudnn")
MACHINE = ("device", "cpu_capability", "threads", "virtual_ranks", "workers", "host")


@dataclass(frozen=True)
class Difference:
    """One thing in which two runs differ."""

    kind: str
    """config, code, environment, data or step."""
    what: str
    """The option, package, file or figure."""
    first: Any
    second: Any
    expected: bool = False
    """Whether it cannot change a bit: the number of workers, the host."""

    def __str__(self) -> str:
        note = " (cannot change a bit)" if self.expected else ""
        return f"{self.kind}: {self.what}: {_short(self.first)} | {_short(self.second)}{note}"


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def differences(one: RunDir, two: RunDir) -> list[Difference]:
    """Everything in which two runs differ, causes before effects; the last one is the first differing step, if there is one.

    Raises:
        RunFolderError: a folder is not a run.
    """
    for run in (one, two):
        run.must_exist()
    found = [*_config(one, two), *_environment(one, two)]
    step = first_step(one, two)
    return [*found, step] if step is not None else found


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else str(key))
    else:
        yield path, value


def _same(one: Any, two: Any) -> bool:
    """Equality, in which NaN equals NaN: two runs that went wrong in the same way do not differ."""
    return bool(one == two or (one != one and two != two))


def _pairs(one: dict[str, Any], two: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    left, right = dict(_flat(one)), dict(_flat(two))
    for key in [*left, *(key for key in right if key not in left)]:
        if not _same(left.get(key), right.get(key)):
            yield key, left.get(key), right.get(key)


def _config(one: RunDir, two: RunDir) -> Iterator[Difference]:
    configs = [load(run.config).config.model_dump() for run in (one, two)]
    for key, left, right in _pairs(*configs):
        quiet = key.split(".")[0] in ("run", "log", "checkpoint") or key in ("data.loader_workers", "data.prefetch_factor")
        yield Difference("config", key, left, right, expected=quiet)


def _last_environment(run: RunDir) -> dict[str, Any]:
    try:
        return dict(read_json(run.environment)[-1])
    except (OSError, ValueError, IndexError, TypeError):
        return {}


def _environment(one: RunDir, two: RunDir) -> Iterator[Difference]:
    left, right = _last_environment(one), _last_environment(two)
    code_left, code_right = left.get("code", {}), right.get("code", {})
    for name, a, b in _pairs({k: v for k, v in code_left.items() if k != "diff"}, {k: v for k, v in code_right.items() if k != "diff"}):
        # A commit alone changes no bits: what the job runs is in the files. Of ostinato's own code the fingerprints tell.
        yield Difference("code", name, a, b, expected=name in ("commit", "ostinato"))
    for name in (*VERSIONS, *MACHINE):
        if left.get(name) != right.get(name):
            yield Difference("environment", name, left.get(name), right.get(name), expected=name in ("workers", "host", "ostinato"))
    for name, a, b in _pairs(left.get("data") or {}, right.get("data") or {}):
        yield Difference("data", name, a, b)


def rows(run: RunDir) -> dict[tuple[int, str], dict[str, Any]]:
    """A run's metrics by step and split; of a step that was done twice the last row counts."""
    return {(row["step"], row["split"]): row for row in read_jsonl(run.metrics)}


def first_step(one: RunDir, two: RunDir) -> Difference | None:
    """The first step for which both runs have a row and a figure in it differs."""
    left, right = rows(one), rows(two)
    order = {"train": 0, "weights": 1, "epoch": 2, "valid": 3, "test": 4}
    for key in sorted(left.keys() & right.keys(), key=lambda key: (key[0], order.get(key[1], 9))):
        for figure in COMPARED:
            a, b = left[key].get(figure), right[key].get(figure)
            if not _same(a, b):
                return Difference("step", f"step {key[0]}, {key[1]} {figure}", a, b)
    return None


def compared_steps(one: RunDir, two: RunDir) -> int:
    """For how many rows both runs have figures."""
    return len(rows(one).keys() & rows(two).keys())


def diff(one: str, two: str, *, as_json: bool) -> int:
    """``ostinato diff``: print in what two runs differ; the exit code.

    Raises:
        RunFolderError: a folder is not a run.
    """
    runs = RunDir(one), RunDir(two)
    found = differences(*runs)
    parted = [difference for difference in found if not difference.expected]
    if as_json:
        print(json.dumps({"identical": not parted, "differences": [asdict(difference) for difference in found]}, indent=2))
    else:
        for difference in found:
            print(difference)
        steps = compared_steps(*runs)
        print(f"different ({steps} rows compared)" if parted else f"no difference that matters ({steps} rows compared)")
    return DIFFERENT if parted else DONE
