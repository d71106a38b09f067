"""What the shell offers at Tab: runs, configs, keys with their values, profiles, checkpoints.

Only names of files, the config's text and the schema are looked at, so it takes a moment; what cannot be read offers nothing.
The shell adds a space after the only answer. So a word that goes on (``optimizer.lr=``) is offered together with what it may become.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import typer

_MOST = 2000  # names read of one folder
_DEEP = 3
_PLAIN = re.compile(r"[\w./:+@%,~-]+")  # a word that needs no quotes; others are left to the shell's own completion of files


def runs(incomplete: str) -> list[str]:
    """Run folders."""
    return list(_below(incomplete, _is_run))


def configs(incomplete: str) -> list[str]:
    """YAML files."""
    return list(_below(incomplete, _is_config))


def overrides(ctx: typer.Context, incomplete: str) -> list[str]:
    """Keys of the config that was named, or their values."""
    said = ctx.params.get("overrides") or ()
    return _overrides(str(ctx.params.get("config") or ""), [str(word) for word in said], incomplete)


def inspected(ctx: typer.Context, incomplete: str) -> list[str]:
    """Of ``inspect``: a run, or the word data, a config and its keys."""
    words = [str(word) for word in ctx.params.get("what") or ()]
    if not words:
        return _starting(["data"], incomplete) + runs(incomplete)
    if words[0] != "data":
        return []
    return configs(incomplete) if len(words) == 1 else _overrides(words[1], words[2:], incomplete)


def profiles(incomplete: str) -> list[str]:
    """Names of Slurm profiles, or paths of them."""
    from launcher.profile import FOLDER

    named = [] if "/" in incomplete else [Path(name).stem for name in _names(str(FOLDER)) if name.endswith(".yaml")]
    return _starting(named, incomplete) or configs(incomplete)


def checkpoints(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of a run's checkpoints."""
    run = ctx.params.get("run") or next(iter([*(ctx.params.get("what") or ()), *ctx.args]), "")  # args: an option lacks its value
    found = [name for name in _names(f"{run}/checkpoints") if re.fullmatch(r"step-\d+(\.\d+)?", name)]
    return _starting(["best", "last", *found], incomplete)


def splits(incomplete: str) -> list[str]:
    """Of ``evaluate``."""
    return _starting(["test", "valid", "train"], incomplete)


def formats(incomplete: str) -> list[str]:
    """Of ``export``."""
    return _starting(["safetensors", "torch", "onnx", "all"], incomplete)


def starters(incomplete: str) -> list[str]:
    """Of ``init``: names of data sets; folders are the shell's own affair."""
    from launcher.starter_sets import SETS

    return _starting(SETS, incomplete)


def _is_run(path: Path) -> bool:
    return (path / "config.yaml").is_file() and (path / "checkpoints").is_dir()


def _is_config(path: Path) -> bool:
    return path.suffix in (".yaml", ".yml") and path.is_file()


def _below(incomplete: str, wanted: Callable[[Path], bool], depth: int = _DEEP) -> Iterator[str]:
    """Paths that begin with a text; folders are looked into, runs and hidden ones are not."""
    folder, slash, start = incomplete.rpartition("/")
    for name in _names(folder + slash or "."):
        path = Path(f"{folder}{slash}{name}").expanduser()
        if not name.startswith(start) or (name.startswith(".") and not start) or not _PLAIN.fullmatch(name):
            continue
        if wanted(path):
            yield f"{folder}{slash}{name}"
        elif depth > 1 and path.is_dir() and not _is_run(path):
            yield from _below(f"{folder}{slash}{name}/", wanted, depth - 1)


def _names(folder: str) -> list[str]:
    try:
        with os.scandir(Path(folder).expanduser()) as entries:
            return sorted(entry.name for entry in islice(entries, _MOST))
    except OSError:
        return []


def _starting(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def _overrides(config: str, said: list[str], incomplete: str) -> list[str]:
    """``key=`` and values, whole as zsh and fish want them; bash takes words apart at ``=`` and wants what follows it."""
    keys = _keys(config)
    if said and said[-1] == "=" and len(said) > 1:
        return _starting(keys.get(said[-2], []), incomplete)
    if said and said[-1] in keys and not incomplete:  # bash; click has dropped the "="
        return keys[said[-1]]
    key, is_value, value = incomplete.partition("=")
    if is_value:
        return [f"{key}={one}" for one in _starting(keys.get(key, []), value)]
    found = _starting(keys, incomplete)
    values = [f"{found[0]}={value}" for value in keys[found[0]]] if len(found) == 1 else []
    return [f"{key}=" for key in found] + values


def _keys(config: str) -> dict[str, list[str]]:
    """Each key of a config and its targets' arguments, with values that it may have: the config's own first."""
    from trainer.config.explain import options

    known: dict[str, Any] = dict(options())
    written = _written(config)
    for key, value in written.items():
        if not isinstance(value, (dict, list)):
            known.setdefault(key, {})
        if key.endswith(".target"):
            known.pop(key.removesuffix(".target"), None)
    for key in [key for key, node in known.items() if _is_target(node) and f"{key}.target" not in written]:
        known[f"{key}.target"] = {"default": (known.pop(key).get("default") or {}).get("target")}
    sections = {key.rpartition(".")[0] for key in known}
    return {key: _values(key, node, written.get(key)) for key, node in sorted(known.items()) if key not in sections}


def _is_target(node: dict[str, Any]) -> bool:
    return any(str(one.get("$ref", "")).endswith("/Target") for one in (node, *node.get("anyOf", ())))


def _values(key: str, node: dict[str, Any], written: Any) -> list[str]:
    """What a key may be set to, as far as it can be listed."""
    options = [part for one in (node, *node.get("anyOf", ())) for part in (*one.get("enum", ()), one.get("const"))]
    switch = [True, False] if node.get("type") == "boolean" else []
    names = _targets(key) if key.endswith(".target") else []
    texts = [_text(value) for value in (written, node.get("default"), *options, *switch, *names) if value is not None]
    return list(dict.fromkeys(text for text in texts if text))


def _targets(key: str) -> list[str]:
    from trainer.registry import SHORT

    parts = key.split(".")
    kind = "dataset" if parts[0] == "data" and parts[1] in ("train", "valid", "test") else parts[0]
    return [] if "transforms" in key else list(SHORT.get(kind, ()))


def _text(value: Any) -> str:
    """A value as it is typed; empty: it would need quotes."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if _PLAIN.fullmatch(text) else ""


def _written(config: str) -> dict[str, Any]:
    """Every key of a config file with its value; nothing where the file cannot be read."""
    from trainer.config.load import read_yaml
    from trainer.errors import ConfigError

    try:
        top: Any = read_yaml(Path(config).expanduser(), config, "").value
    except ConfigError:
        return {}
    return dict(_flat(top, "")) if isinstance(top, dict) else {}


def _flat(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        yield f"{path}{key}", inner
        yield from _flat(inner, f"{path}{key}.")
