"""How a folder of pictures is laid out: one folder a class, in one place or in train, valid and test folders. Free of torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.config.strict_yaml import one_line
from trainer.errors import ConfigError

KINDS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""The endings that `image_folder` reads."""
PARTS = {"train": ("train", "training"), "valid": ("valid", "val", "validation", "dev"), "test": ("test", "testing")}
_LAYOUT = "put them into one folder a class, such as {0}/cats/1.jpg and {0}/dogs/1.jpg"


@dataclass(frozen=True)
class Part:
    """The training, validation or test pictures.

    Args:
        folder: where they are, as it was typed.
        files: those of each class.
    """

    folder: str
    files: dict[str, list[str]]

    @property
    def counts(self) -> dict[str, int]:
        """Pictures of each class."""
        return {name: len(files) for name, files in self.files.items()}


def find_parts(folder: str) -> tuple[dict[str, Part], list[str]]:
    """The parts of a folder with their classes, and what was passed over.

    Raises:
        ConfigError: it is laid out in another way.
    """
    inside = _folders(folder)
    named = {part: name for part, names in PARTS.items() for name in inside if name.lower() in names}
    others = [name for name in inside if name not in named.values() and not _is_hidden(name)]
    is_class = "train" in named and not _folders(_join(folder, named["train"])) and others
    if "train" not in named or is_class:
        if "train" not in named and inside and len(named) == len(inside):
            raise ConfigError(f"{folder}: there is {' and '.join(inside)}, and no train; name the pictures to learn from so")
        return {"train": _part(folder, inside)}, []
    notes = [f"passed over, beside {named['train']}: {', '.join(one_line(name, 40) for name in others[:5])}"] if others else []
    parts: dict[str, Part] = {}
    for part in (part for part in PARTS if part in named):
        place = _join(folder, named[part])
        if part != "train" and not _folders(place):
            notes.append(f"passed over: {place} has no folders of classes; ostinato predict answers such pictures")
            continue
        if part != "train":
            _same_classes(parts["train"].folder, list(parts["train"].files), place, _folders(place))
        parts[part] = _part(place, _folders(place))
    return parts, notes


def _part(folder: str, classes: Sequence[str]) -> Part:
    found = {name: _pictures(_join(folder, name)) for name in classes}
    if not classes or not any(found.values()):
        raise ConfigError(_no_classes(folder, classes))
    for name, files in found.items():
        place = one_line(_join(folder, name), 200)
        better = next((one for one in classes if not all(found.values()) and _has_classes(_join(folder, one))), None)
        if better is not None:
            raise ConfigError(f"{folder}: its folders are no classes of pictures; did you mean {_join(folder, better)}?")
        if not files or _is_hidden(name):
            what = "is hidden" if files else f"holds no picture ({', '.join(KINDS[:3])}, …)"
            raise ConfigError(f"{place}: {what}, and each folder is a class; move it elsewhere, or remove it")
    if len(found) == 1:
        inner = _folders(_join(folder, classes[0]))
        instead = f"did you mean {_join(folder, classes[0])}?" if inner else "a classifier needs two folders or more, one a class"
        raise ConfigError(f"{folder}: one class only, {one_line(classes[0], 40)}; {instead}")
    return Part(folder, found)


def _no_classes(folder: str, inside: Sequence[str]) -> str:
    loose = [name for name in _names(folder) if name.lower().endswith(KINDS)]
    if loose:
        return f"{folder}: {len(loose)} pictures in one folder, and nothing says what they show; {_LAYOUT.format(folder.rstrip('/'))}"
    what = f"no pictures in {one_line(', '.join(inside[:3]), 80)}" if inside else "no folders of pictures in it"
    return f"{folder}: {what}; {_LAYOUT.format(folder.rstrip('/'))} ({', '.join(KINDS)})"


def _has_classes(folder: str) -> bool:
    return sum(any(file.lower().endswith(KINDS) for file in _names(_join(folder, name))) for name in _folders(folder)) > 1


def _same_classes(train: str, ours: Sequence[str], other: str, theirs: Sequence[str]) -> None:
    """Classes are numbered by their folders' names in each part, so these must be the same."""
    for place, names, lacking in ((other, ours, theirs), (train, theirs, ours)):
        missing = next((name for name in names if name not in lacking), None)
        if missing is not None:
            has = train if place == other else other
            raise ConfigError(f"{place}: there is no folder {one_line(missing, 40)}, which {has} has; each part needs the same classes")


def _folders(folder: str) -> list[str]:
    return [name for name in _names(folder) if Path(folder, name).is_dir()]


def _pictures(folder: str) -> list[str]:
    """The files of a class at any depth, as `image_folder` finds them."""
    walked = sorted(os.walk(folder, followlinks=True))
    return [_join(place, name) for place, _, names in walked for name in sorted(names) if name.lower().endswith(KINDS)]


def _names(folder: str) -> list[str]:
    try:
        return sorted(entry.name for entry in Path(folder).iterdir())
    except OSError as fault:
        raise ConfigError(f"{folder}: cannot be read ({fault.strerror}); name a folder of pictures") from fault


def _join(folder: str, name: str) -> str:
    return f"{folder.rstrip('/')}/{name}"


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"
