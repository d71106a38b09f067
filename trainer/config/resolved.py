"""A config as text, as a hash, and against another one."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import yaml

from trainer.config.schema import Config
from trainer.config.strict_yaml import scalar

# What may change between two starts of one run without changing what is computed.
_NO_ARITHMETIC: dict[str, bool | set[str]] = {
    "run": True,
    "log": True,
    "checkpoint": True,
    "supervision": True,
    "data": {"loader_workers", "prefetch_factor"},
    "hardware": {"collective_timeout_s"},
}
_ABSENT = object()


class _Dumper(yaml.SafeDumper):
    """Writes text plain only where our own reader takes it for text again, and never writes an alias."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    try:
        plain = isinstance(scalar(text), str) and text != "<<" and text.isprintable()  # PyYAML writes U+0085 as it is, reads a space
    except ValueError:
        plain = False
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')


_Dumper.add_representer(str, _text)


def dump(config: Config) -> str:
    """YAML with every default filled in, which ``load`` reads back to an equal config."""
    return to_yaml(config.model_dump())


def config_hash(config: Config) -> str:
    """The SHA-256 of what decides the arithmetic: not names, logs, checkpoints, loader processes and time limits."""
    return hashlib.sha256(json.dumps(arithmetic(config), sort_keys=True).encode()).hexdigest()


def differences(old: Config, new: Config) -> list[str]:
    """What changed in the arithmetic, a line a key: ``train.epochs: 20 -> 30``."""
    before, after = _flat(arithmetic(old)), _flat(arithmetic(new))
    lines = []
    for key in [*before, *(key for key in after if key not in before)]:
        was, now = before.get(key, _ABSENT), after.get(key, _ABSENT)
        if _shown(was) != _shown(now):
            lines.append(f"{key}: {_shown(was)} -> {_shown(now)}")
    return lines


def as_settled(old: Config, new: Config) -> Config:
    """A config for a run that is there: what it leaves ``auto`` stays as the run's first start settled it."""
    train, hardware = new.train, new.hardware
    if train.virtual_ranks == "auto":
        train = train.model_copy(update={"virtual_ranks": old.train.virtual_ranks})
    if hardware.threads == "auto":
        hardware = hardware.model_copy(update={"threads": old.hardware.threads})
    return new.model_copy(update={"train": train, "hardware": hardware})


def arithmetic(config: Config) -> dict[str, Any]:
    """What decides the arithmetic, as plain values: what `config_hash` hashes."""
    return config.model_dump(exclude=dict(_NO_ARITHMETIC))


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted path -> value; what is empty counts as a value."""
    if not isinstance(value, dict | list) or not value:
        return {prefix: value}
    entries = value.items() if isinstance(value, dict) else enumerate(value)
    return {path: inner for key, entry in entries for path, inner in _flat(entry, f"{prefix}.{key}" if prefix else str(key)).items()}


def _shown(value: Any) -> str:
    return "not set" if value is _ABSENT else to_yaml([value], flow=True).strip()[1:-1]


def to_yaml(value: Any, *, flow: bool = False) -> str:
    """YAML for plain values that our own reader takes for the same values again."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=flow, width=2**31)
    return text
