"""A config as a flat table, for those who compare runs: TensorBoard's table of runs, Weights & Biases."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from trainer.config.schema import Config
from trainer.masking import masked

POSITION = ("time", "attempt", "step", "epoch", "split")
"""Where and when a row belongs."""
LEFT_OUT = ("run.", "supervision.", "log.", "checkpoint.")
"""Sections that change no number."""


def scalar_options(config: Config) -> dict[str, Any]:
    """The options of the arithmetic that are numbers, texts or switches, and are set: ``{"optimizer.lr": 0.1, …}``; no secrets."""
    flat = _flat(config.model_dump(mode="json"), "")
    return {name: _safe(name, value) for name, value in flat if value is not None and not name.startswith(LEFT_OUT)}


def _flat(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, (dict, list)):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, value


def _safe(name: str, value: Any) -> Any:
    """A text without the secret that it may be, or hold."""
    return masked([f"{name}={value}"])[0].partition("=")[2] if isinstance(value, str) else value


def final_metrics(rows: Iterable[dict[str, Any]]) -> dict[str, float]:
    """The last numbers of each epoch's training, validation and test: ``{"accuracy/valid": 0.97, …}``."""
    found: dict[str, float] = {}
    for row in rows:
        if row.get("split") in ("epoch", "valid", "test"):
            found.update(curves(row))
    return found


def curves(row: dict[str, Any]) -> dict[str, float]:
    """What of a row can be drawn, by the names of its curves: ``loss/train``, ``lr/train``, ``lr/head/train``."""
    numbers = {name: value for name, value in row.items() if isinstance(value, (int, float)) and name not in POSITION}
    return {f"{name}/{row['split']}": value for name, value in numbers.items()}
