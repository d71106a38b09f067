"""``ostinato inspect data``: what a config's data sets are, before anything is trained. It creates no run folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trainer.config.load import load
from trainer.config.schema import Config
from trainer.config.targets import check_targets
from trainer.errors import DONE, TRAINING_FAILED, RunFolderError

_CLASSES, _BAD, _VIDEOS = 20, 10, 10
_TITLES = {"train": "training set", "valid": "validation set", "test": "test set"}


def look(config: str, overrides: Sequence[str], *, as_json: bool, tensorboard: str | None = None) -> int:
    """Say what each of a config's data sets is, and write a picture of the first training inputs to ``NAME-data.png``.

    Args:
        config: the YAML file.
        overrides: ``section.key=value``.
        as_json: print JSON instead of text.
        tensorboard: a folder to which the pictures are added for TensorBoard.

    Returns:
        0; or 4 if a sample cannot be read and ``data.bad_samples`` is ``fail``: the run would fail on it.
    """
    loaded = load(config, overrides)
    check_targets(loaded)
    found, pictures = _look(loaded.config)
    written = _write(loaded.config, pictures, tensorboard)
    if as_json:
        print(json.dumps({"splits": found, "pictures": written}, indent=2))
    else:
        for split, facts in found.items():
            print("\n".join(page(_TITLES[split], facts)), end="\n\n")
        print("\n".join(written) if written else "no picture: the training inputs are no images")
    bad = any(facts["bad"] for facts in found.values())
    return TRAINING_FAILED if bad and loaded.config.data.bad_samples == "fail" else DONE


def _look(config: Config) -> tuple[dict[str, dict[str, Any]], list[Any]]:
    """The facts of each split, and the training set's pictures."""
    from trainer import build
    from trainer.data.look import look as look_at

    found: dict[str, dict[str, Any]] = {}
    pictures: list[Any] = []
    for split, dataset in zip(_TITLES, build.datasets(config), strict=True):
        if dataset is None:
            continue
        seen = look_at(dataset, config.seed, training=split == "train")
        found[split] = asdict(seen.facts)
        if split == "train":
            pictures = seen.pictures
    return found, pictures


def _write(config: Config, pictures: list[Any], tensorboard: str | None) -> list[str]:
    """Write the pictures; returns where to."""
    from trainer.data.pictures import to_tensorboard, write_grid

    if not pictures:
        return []
    path = Path(f"{config.run.name}-data.png")
    try:
        write_grid(pictures, path)
        if tensorboard is not None:
            to_tensorboard(pictures, Path(tensorboard), "data/train")
    except OSError as fault:
        raise RunFolderError(
            f"{fault.filename or path}: cannot be written ({fault.strerror}); run the command in a folder of yours"
        ) from fault
    return [str(path)] + ([tensorboard] if tensorboard is not None else [])


def page(title: str, facts: dict[str, Any]) -> list[str]:
    """One split for people."""
    lines = [f"{title}: {facts['name']}, {facts['samples']:,} samples, {facts['looked_at']:,} of them looked at"]
    shapes = [f"{shape}" if len(facts["shapes"]) == 1 else f"{shape} ({count:,}×)" for shape, count in facts["shapes"].items()]
    lines.append(_row("inputs", ", ".join(shapes[:4]) + (f" and {len(shapes) - 4} other shapes" if len(shapes) > 4 else "")))
    if facts["low"] is not None:
        lines.append(_row("range", f"{facts['low']:.4g} … {facts['high']:.4g}"))
    if facts["mean"]:
        lines += [_row(name, "  ".join(f"{value:.4f}" for value in facts[name])) for name in ("mean", "std")]
    if facts["not_finite"]:
        lines.append(_row("not finite", f"{facts['not_finite']:,} samples hold NaN or infinity"))
    lines.append(_row("targets", facts["target"]))
    lines += _classes(facts)
    lines.append(_row("bad", "none" if not facts["bad"] else f"{len(facts['bad'])} cannot be read"))
    lines += [f"    {line}" for line in _first(facts["bad"], _BAD)]
    return lines + _videos(facts["videos"])


def _row(name: str, text: str) -> str:
    return f"  {name.ljust(11)}{text}"


def _first(items: Sequence[str], limit: int) -> list[str]:
    return [*items[:limit], f"and {len(items) - limit} more"] if len(items) > limit else list(items)


def _classes(facts: dict[str, Any]) -> list[str]:
    counts: dict[str, int] = facts["classes"]
    if not counts:
        return []
    few, many = min(counts, key=lambda name: counts[name]), max(counts, key=lambda name: counts[name])
    ratio = f" ({counts[many] / counts[few]:.2f} to 1)" if counts[few] else ""
    balance = "balanced" if counts[few] == counts[many] else f"most samples: {many} {counts[many]:,}; fewest: {few} {counts[few]:,}{ratio}"
    total, width = sum(counts.values()), max(len(name) for name in counts)
    rows = [f"{name.ljust(width)}  {count:>8,}  {100 * count / total:5.1f} %" for name, count in counts.items()]
    return [_row("classes", f"{len(counts)}, counted {facts['counted']}; {balance}"), *(f"    {row}" for row in _first(rows, _CLASSES))]


def _videos(videos: list[dict[str, Any]]) -> list[str]:
    if not videos:
        return []
    rows = [
        f"{video['path']}: {video['error']}"
        if "error" in video
        else f"{video['path']}: {video['fps']:g} fps, {video['width']}×{video['height']}, {video['frames']} frames, {video['seconds']:g} s"
        for video in videos
    ]
    return [_row("videos", str(len(videos))), *(f"    {row}" for row in _first(rows, _VIDEOS))]
