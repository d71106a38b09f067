"""A config file and overrides -> a checked config that knows where each value came from.

Every problem is found before anything else happens, and each is one line: ``configs/x.yaml:12: train.epochs: …`` or
``command line: train.epochs=0: …``. Nothing here imports torch; ``trainer.config.targets`` is the second stage, which does.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from trainer.config.checks import problems as contradictions
from trainer.config.explain import explain, json_schema
from trainer.config.origins import Complaint, Origins, render, within
from trainer.config.overrides import apply
from trainer.config.resolved import as_settled, config_hash, differences, dump
from trainer.config.schema import Config
from trainer.config.strict_yaml import MAX_BYTES, Document, KeyPath, Unreadable, one_line, parse, show
from trainer.errors import ConfigError

__all__ = ["Loaded", "as_settled", "config_hash", "differences", "dump", "json_schema", "load"]


@dataclass(frozen=True)
class Loaded:
    """A config, and where its values came from."""

    config: Config
    origins: Origins

    def origin(self, path: KeyPath) -> str:
        """``configs/x.yaml:12`` or ``command line: data.batch_size=64``: where the value at a path was set.

        Args:
            path: keys and list positions from the top, such as ``("data", "batch_size")``.
        """
        return self.origins.of(path)

    def error(self, *found: tuple[KeyPath, str]) -> ConfigError:
        """A ``ConfigError`` for problems found later, each with its origin.

        Args:
            found: (path, message) of each.
        """
        return ConfigError(*render(self.origins.complaints(found)))


def load(path: str | Path, overrides: Sequence[str] = ()) -> Loaded:
    """Read and check a config; a run without a name gets the file's stem.

    Args:
        path: a YAML file.
        overrides: ``section.key=value``, in order.

    Raises:
        ConfigError: with every problem, one line each.
    """
    file = one_line(str(path), 200)
    document = read_yaml(Path(path), file, "a config needs model, data, optimizer and train")
    values: dict[str, Any] = document.value
    applied = apply(values, overrides)
    lines = {inner: line for inner, line in document.lines.items() if not within(inner, applied.origins)}
    origins = Origins(file, lines, applied.origins)
    unread: list[Complaint] = [
        # What the command line replaced is no longer the file's, and so are its mistakes.
        *((f"{file}:{line}", inner, text) for line, inner, text in document.problems if not within(inner, applied.origins)),
        *applied.problems,
    ]
    named_after_file = _name_run(values, Path(path))
    config, found = _validate(values)
    if named_after_file:
        found = [(inner, _no_name(Path(path)) if inner == ("run", "name") else text) for inner, text in found]
    broken = [inner for _, inner, _ in unread if inner]
    known = origins.complaints((inner, text) for inner, text in found if not within(inner, broken))
    if config is None or known or unread:
        raise ConfigError(*render([*known, *unread]))
    return Loaded(config, origins)


def _validate(values: dict[str, Any]) -> tuple[Config | None, list[tuple[KeyPath, str]]]:
    """The config, and what is wrong with it; None where it could not be built."""
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        return None, explain(error)
    return config, contradictions(config)


def _name_run(values: dict[str, Any], path: Path) -> bool:
    """Name a run that has no name after its file; whether that was done."""
    run = values.setdefault("run", {})
    if not isinstance(run, dict) or run.get("name") is not None:
        return False
    run["name"] = path.stem
    return True


def _no_name(path: Path) -> str:
    return f"the file's name, {show(path.stem)}, cannot name a run; set run.name: up to 64 letters, digits, '.', '_' and '-'"


def read_yaml(path: Path, file: str, needs: str) -> Document:
    """The document in a file, whose top level is a mapping.

    Args:
        path: the file.
        file: what it is called in messages.
        needs: what an empty file is told.

    Raises:
        ConfigError: the file cannot be read, or is no YAML.
    """
    try:
        if path.exists() and not path.is_file():
            raise ConfigError(f"{file}: {'a folder' if path.is_dir() else 'no regular file'}; name a YAML file")
        with path.open("rb") as opened:
            data = opened.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(f"{file}: no such file{_similar(path)}") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise ConfigError(f"{file}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{file}:1: larger than {MAX_BYTES // 1024} KiB, which is no config")
    try:
        document = parse(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{file}:{line}: not UTF-8 text; is this a config?") from None
    except Unreadable as error:
        raise ConfigError(f"{file}:{error.line}: {error.message}") from None
    if document.value is None and not document.problems:
        raise ConfigError(f"{file}:1: empty; {needs}")
    if not isinstance(document.value, dict):
        what = document.problems[0][2] if document.problems else f"the top level is {show(document.value)}"
        raise ConfigError(f"{file}:{document.lines[()]}: {what}; a config is 'section:' lines with 'key: value' lines below them")
    return document


def _similar(path: Path) -> str:
    """The nearest config beside a name that does not exist."""
    try:
        there = [entry.name for entry in path.parent.iterdir() if entry.suffix in (".yaml", ".yml")]
    except OSError:
        return ""
    near = [f"{path.name}{end}" for end in (".yaml", ".yml") if f"{path.name}{end}" in there]
    near = near or difflib.get_close_matches(path.name, there, 1)
    return f" (did you mean {path.with_name(near[0])}?)" if near else ""
