"""The schema's complaints in plain words: what is wrong, and what may stand there instead."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from functools import cache
from typing import Any

from pydantic import BaseModel, ValidationError

from trainer.config.schema import Config
from trainer.config.strict_yaml import KeyPath, one_line, scalar, show

Node = dict[str, Any]
"""A part of the JSON schema."""


@cache
def json_schema(model: type[BaseModel] = Config) -> Node:
    """The JSON schema of a config, with which editors complete and check the YAML; or of another file's model."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | model.model_json_schema()


def explain(error: ValidationError, model: type[BaseModel] = Config) -> list[tuple[KeyPath, str]]:
    """Each problem once, as (path, message).

    Args:
        error: what validating raised.
        model: what was validated.
    """
    root = json_schema(model)
    found: dict[tuple[KeyPath, str], None] = {}  # a union complains once for each of its members
    for problem in error.errors(include_url=False, include_context=False):
        path, node = _locate(root, problem["loc"])
        found[path, _message(root, problem["type"], problem["msg"], problem["input"], path, node)] = None
    return list(found)


def did_you_mean(name: str, known: list[str]) -> str:
    """`` (did you mean 'x'?)`` for the nearest known name, or nothing."""
    folded = {candidate.lower(): candidate for candidate in reversed(known)}
    near = difflib.get_close_matches(name.lower(), folded, 1)
    return f" (did you mean '{folded[near[0]]}'?)" if near else ""


def describe(node: Node) -> str:
    """What may stand at a place, in words."""
    if "anyOf" in node:
        parts = [describe(option) for option in node["anyOf"]]
        return f"{', '.join(parts[:-1])} or {parts[-1]}"
    if "$ref" in node:
        return "a mapping with a target, such as {target: name}" if node["$ref"].endswith("/Target") else "a section of 'key: value' lines"
    if "const" in node:
        return str(node["const"])
    if "enum" in node:
        return f"{', '.join(node['enum'][:-1])} or {node['enum'][-1]}"
    if "pattern" in node:
        return "up to 64 letters, digits, '.', '_' and '-', the first a letter or a digit"
    if node["type"] == "array":
        return f"a list; each entry {describe(node['items'])}"
    words = {"integer": "a whole number", "number": "a number", "boolean": "true or false", "null": "null", "string": "text"}
    limit = " that is not empty" if node.get("minLength") else _limits(node)
    return words[node["type"]] + limit


def options(node: Node | None = None, prefix: str = "", root: Node | None = None) -> Iterator[tuple[str, Node]]:
    """Every option as (dotted path, its part of the schema), a section before what it holds."""
    root = root or json_schema()
    for name, inner in _narrow(root, node or root).get("properties", {}).items():
        yield prefix + name, inner
        if _narrow(root, inner).get("additionalProperties") is False:  # a section, not a target, whose keys are its own
            yield from options(_narrow(root, inner), f"{prefix}{name}.", root)


def _limits(node: Node) -> str:
    least, most = node.get("minimum"), node.get("maximum")
    above, below = node.get("exclusiveMinimum"), node.get("exclusiveMaximum")
    bounds = [
        f"of at least {least:g}" if least is not None else "",
        f"greater than {above:g}" if above is not None else "",
        f"at most {most:g}" if most is not None else "",
        f"less than {below}" if below is not None else "",
    ]
    words = " and ".join(bound for bound in bounds if bound)
    return f" {words}" if words else ""


def _message(root: Node, kind: str, text: str, value: Any, path: KeyPath, node: Node | None) -> str:
    if kind == "extra_forbidden":
        return _unknown_key(root, path)
    if kind == "missing":
        return f"missing; it must be {describe(node)}" if node else "missing"
    if kind == "value_error" or node is None:
        return text.removeprefix("Value error, ")
    return f"must be {describe(node)}, not {show(value)}{_hint(value, node)}"


def _hint(value: Any, node: Node) -> str:
    """What a refused text was probably meant to be."""
    if not isinstance(value, str):
        return ""
    choices = [option for option in (node, *node.get("anyOf", ())) if "enum" in option or "const" in option]
    if near := did_you_mean(value, [str(word) for option in choices for word in option.get("enum", [option.get("const")])]):
        return near
    kinds = {option.get("type") for option in (node, *node.get("anyOf", ()))}
    if "boolean" in kinds and value.lower() in ("yes", "on", "y", "no", "off", "n"):
        return f" (write {'true' if value.lower() in ('yes', 'on', 'y') else 'false'})"
    try:
        is_number = isinstance(scalar(value.replace("_", "")), int | float)
    except ValueError:
        is_number = False
    return f" (write {value.replace('_', '')} without quotes)" if is_number and kinds & {"integer", "number"} else ""


def _unknown_key(root: Node, path: KeyPath) -> str:
    key = one_line(str(path[-1]), 40)
    _, section = _locate(root, path[:-1])
    here = list(_narrow(root, section or root).get("properties", {}))
    if near := did_you_mean(key, here):
        return f"unknown key '{key}'{near}"
    elsewhere = [option for option, _ in options(root=root) if option.rpartition(".")[2] == key]
    if elsewhere:
        return f"unknown key '{key}' here (did you mean {' or '.join(elsewhere)}?)"
    return f"unknown key '{key}'; known here: {', '.join(here)}"


def _locate(root: Node, location: KeyPath) -> tuple[KeyPath, Node | None]:
    """The path without the names that a union adds, and the schema there; None for an unknown key."""
    node = root
    for depth, part in enumerate(location):
        inner = _narrow(root, node)
        if part in inner.get("properties", {}):
            node = inner["properties"][part]
        elif isinstance(part, int) and "items" in inner:
            node = inner["items"]
        elif "properties" in inner:
            return location[: depth + 1], None
        else:
            return location[:depth], node
    return location, node


def _narrow(root: Node, node: Node) -> Node:
    """The object or list that may stand here: without null, references followed."""
    if "anyOf" in node:
        others = [option for option in node["anyOf"] if option.get("type") != "null"]
        node = others[0] if len(others) == 1 else {}
    if "$ref" in node:
        definition: Node = root["$defs"][node["$ref"].rpartition("/")[2]]
        return definition
    return node
