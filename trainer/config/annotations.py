"""Whether a value from a config can be what an annotation asks for. In doubt it can: many annotations say less than is meant."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from trainer.config.explain import did_you_mean

_BY_NAME = {"int": int, "float": float, "bool": bool, "str": str, "None": type(None)}
_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
_LISTS = (list, tuple, Sequence, Iterable)
_MAPPINGS = (dict, Mapping)
# What no YAML can write down.
_OBJECTS = ("Tensor", "dtype", "Module", "Generator")
_LOOKS_LIKE_BOOL = ("yes", "no", "on", "off", "y", "n")


def accepts(parameter: inspect.Parameter, value: Any) -> bool:
    """Whether a parameter can take a value, as far as its annotation and its default tell.

    Args:
        parameter: of the target's signature.
        value: text, a number, a boolean, None, a list or a mapping; or a callable, where one will be made of it.
    """
    if value is None and parameter.default is None:
        return True
    if parameter.annotation is inspect.Parameter.empty:
        # The default may be wider than its type, except that ``no`` is true in Python where false was meant.
        return not (isinstance(parameter.default, bool) and isinstance(value, str) and value.lower() in _LOOKS_LIKE_BOOL)
    return _fits(parameter.annotation, value)


def hint(annotation: Any, value: Any) -> str:
    """Which of a few allowed words was probably meant."""
    if typing.get_origin(annotation) is not typing.Literal or not isinstance(value, str):
        return ""
    return did_you_mean(value, [str(word) for word in typing.get_args(annotation)])


def describe(annotation: Any) -> str:
    """What an annotation, a type or its name, asks for, in words."""
    annotation = _BY_NAME.get(annotation, annotation) if isinstance(annotation, str) else annotation
    if annotation is inspect.Parameter.empty:
        return "true or false"
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return ", ".join(map(str, inner[:-1])) + f"{' or ' if inner[1:] else ''}{inner[-1]}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(describe(option) for option in inner))
    base = origin or annotation
    if base in _LISTS:
        return "a list of targets" if inner and (typing.get_origin(inner[0]) or inner[0]) is Callable else "a list"
    if base in _MAPPINGS:
        return "a mapping"
    return _WORDS.get(base) or f"a {getattr(base, '__name__', base)}"


def _fits(annotation: Any, value: Any) -> bool:
    annotation = _BY_NAME.get(annotation, Any) if isinstance(annotation, str) else annotation
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return any(type(option) is type(value) and option == value for option in inner)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(option, value) for option in inner)
    base = origin or (type(None) if annotation is None else annotation)
    if base in _WORDS:
        return _is_a(base, value)
    if base in _LISTS:
        return isinstance(value, list) and _entries_fit(base, inner, value)
    if base in _MAPPINGS:
        return isinstance(value, dict)
    if callable(value):
        return base is Callable or isinstance(base, type)
    return base is not Callable and getattr(base, "__name__", "") not in _OBJECTS


def _is_a(base: type, value: Any) -> bool:
    """``isinstance`` as people mean it: true is no number, and a whole number can stand where any number can."""
    if base is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, base) and (base is bool or not isinstance(value, bool))


def _entries_fit(base: Any, inner: tuple[Any, ...], value: list[Any]) -> bool:
    if base is tuple and inner and inner[-1] is not Ellipsis:
        return len(inner) == len(value) and all(_fits(kind, entry) for kind, entry in zip(inner, value, strict=True))
    return not inner or all(_fits(inner[0], entry) for entry in value)
