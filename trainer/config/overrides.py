"""``section.key=value`` from the command line, put into what the file says."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from trainer.config.origins import COMMAND_LINE, Complaint
from trainer.config.schema import Config, Target
from trainer.config.strict_yaml import MAX_DEPTH, Document, KeyPath, Unreadable, one_line, parse, show

_KEY = re.compile(r"\w[\w-]*(\.\w[\w-]*)*")
_FORM = "write section.key=value, such as train.epochs=3"


@dataclass
class Applied:
    """What the overrides did.

    Args:
        origins: the override from which the value at a path comes, as messages name it.
        problems: what could not be used.
    """

    origins: dict[KeyPath, str] = field(default_factory=dict)
    problems: list[Complaint] = field(default_factory=list)


class _Refused(Exception):
    """This override cannot be used."""


def apply(values: dict[str, Any], overrides: Sequence[str]) -> Applied:
    """Put overrides into a config's values, in their order; of two for one key the later wins.

    Args:
        values: what the file says; changed in place.
        overrides: as they stand on the command line.
    """
    applied = Applied()
    for override in overrides:
        origin = COMMAND_LINE + one_line(override)
        try:
            keys, document = _read(override)
            created, path = _put(values, keys, document.value)
        except _Refused as refused:
            applied.problems.append((origin, (), str(refused)))
            continue
        kept = {known: where for known, where in applied.origins.items() if known[: len(path)] != path}
        applied.origins = kept | {created: origin, path: origin}
        applied.problems += [(origin, path + inner, message) for _, inner, message in document.problems]
    return applied


def _read(override: str) -> tuple[list[str], Document]:
    """The keys and the value that an override names."""
    key, equals, text = override.partition("=")
    if not equals:
        raise _Refused(f"not an override; {_FORM}")
    keys = key.split(".")
    if not _KEY.fullmatch(key) or len(keys) >= MAX_DEPTH:
        raise _Refused(f"'{one_line(key, 40)}' is not a key; {_FORM}")
    if not text.strip():
        raise _Refused(f"no value after '='; {_FORM}, or {one_line(key, 40)}=null for none")
    try:
        document = parse(text, depth=len(keys))
    except Unreadable as error:
        raise _Refused(error.message) from None
    if not document.lines:
        raise _Refused(f"no value after '='; {_FORM}")
    return keys, document


def _put(values: dict[str, Any], keys: list[str], value: Any) -> tuple[KeyPath, KeyPath]:
    """Set a value, making the mappings above it.

    Returns:
        The path of the topmost thing that was made, and the value's own path.
    """
    inside: Any = values
    path: KeyPath = ()
    created: KeyPath | None = None
    for key in keys[:-1]:
        place = _place(inside, key, path)
        path = (*path, place)
        if isinstance(inside, dict) and inside.get(place) is None:
            inside[place] = _starting_point(path)
            created = created or path
        inside = inside[place]
    last = _place(inside, keys[-1], path)
    inside[last] = value
    path = (*path, last)
    return created or path, path


def _place(inside: Any, key: str, path: KeyPath) -> str | int:
    """The key as this mapping or list takes it."""
    if isinstance(inside, dict):
        return key
    here = ".".join(map(str, path))
    if not isinstance(inside, list):
        raise _Refused(f"{here} is {show(inside)}, which has no keys; write {here}={{target: …, {key}: …}} or the like")
    if not key.isdecimal():
        raise _Refused(f"{here} is a list; name an entry by its number, such as {here}.0")
    if len(key) > 9 or int(key) >= len(inside):
        entries = f"has the entries 0 to {len(inside) - 1}" if inside else "is an empty list"
        raise _Refused(f"{here} {entries}; there is no {one_line(key, 20)}")
    return int(key)


def _starting_point(path: KeyPath) -> dict[str, Any]:
    """What an absent section holds before its first key is set: ``loss.label_smoothing=0.1`` keeps the default loss."""
    default = Config.model_fields[str(path[0])].default if len(path) == 1 and path[0] in Config.model_fields else None
    return default.model_dump() if isinstance(default, Target) else {}
