"""``ostinato summary``: a config's model for a batch of its data, in a table. Nothing is trained, and no run folder is made."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from trainer.config.load import load
from trainer.config.targets import check_targets
from trainer.errors import DONE

if TYPE_CHECKING:
    from trainer.models.summary import Summary


def summary(config: str, overrides: Sequence[str], *, as_json: bool, depth: int | None = None) -> int:
    """Print a model's layers with their shapes, parameters and multiplications.

    Args:
        config: the YAML file.
        overrides: ``section.key=value``.
        as_json: print JSON instead of a table.
        depth: how many levels of modules in modules to show; all when left out.

    Returns:
        0.

    Raises:
        OstinatoError: the config is wrong, the data cannot be read, or the model cannot take them.
    """
    loaded = load(config, overrides)
    check_targets(loaded)
    from trainer.models.summary import of_config

    found = of_config(loaded.config, depth)
    if as_json:
        print(json.dumps(asdict(found), indent=2))
    else:
        print("\n".join(table(found)))
    return DONE


def table(found: Summary) -> list[str]:
    """The lines for people."""
    rows = [("layer", "kind", "input", "output", "parameters", "trains", "MACs")]
    for layer in found.layers:
        trains = "-" if not layer.parameters else {0: "no", layer.parameters: "yes"}.get(layer.trainable, "in part")
        counts = (number(layer.parameters), trains, number(layer.macs))
        rows.append(("  " * (layer.depth - 1) + layer.name, layer.kind, shape(layer.input), shape(layer.output), *counts))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(_cell(cell, width, column) for column, (cell, width) in enumerate(zip(row, widths, strict=True))) for row in rows]
    return [
        *(line.rstrip() for line in lines),
        "",
        f"one batch: {shape(found.input)} -> {shape(found.output)}",
        f"parameters: {found.parameters:,} ({found.trainable:,} trainable, {found.parameters - found.trainable:,} frozen)",
        f"MACs of a batch's forward pass: {found.macs:,}",
    ]


def shape(sizes: object) -> str:
    """``1×28×28``; of several tensors each one's."""
    if isinstance(sizes, dict):
        return ", ".join(f"{name}: {shape(size)}" for name, size in sizes.items())
    if isinstance(sizes, list) and all(isinstance(size, int) for size in sizes):
        return "×".join(map(str, sizes)) or "-"
    return ", ".join(map(shape, sizes)) if isinstance(sizes, list) else "-"


def number(count: int) -> str:
    """With commas; nothing is a dash."""
    return f"{count:,}" if count else "-"


def _cell(text: str, width: int, column: int) -> str:
    return text.rjust(width) if column in (4, 6) else text.ljust(width)
