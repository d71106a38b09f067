"""YAML as people expect it: each value with its line, and nothing that surprises.

PyYAML reads YAML 1.1, where ``1e-3`` is text, ``no`` is false, ``010`` is 8, a repeated key silently wins and an alias can
unfold to gigabytes. Only its parser is used here. The values follow YAML 1.2's core schema: ``3e-4`` is a number, ``no``,
``on`` and ``12:30:45`` are text, a number with a leading zero is an error, and so are repeated keys, anchors, aliases and tags.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 32

KeyPath = tuple[str | int, ...]
"""Where a value stands: keys and list positions from the top."""

_WORDS: dict[str, bool | None] = {"": None, "~": None}
for _word, _value in (("null", None), ("true", True), ("false", False)):
    _WORDS |= {_word: _value, _word.title(): _value, _word.upper(): _value}
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_BASED_INT = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"([-+]?)\.(inf|Inf|INF)")
_NAN = re.compile(r"\.(nan|NaN|NAN)")

# The parser's own words -> what helps a person.
_PLAIN_WORDS = (
    ("'\\t'", "a tab; indent with spaces"),
    ("mapping values are not allowed", "a ':' where no value can begin; check the indentation, or quote the text"),
    ("but found ':'", "a key is missing before ':'"),
    ("could not find expected ':'", "expected 'key: value'"),
    ("expected <block end>", "this line's indentation fits no line above it"),
    ("found unexpected end of stream", "the end of the file inside quotes"),
    ("expected ',' or ']'", "a list [...] that is not closed, or lacks a ','"),
    ("expected ',' or '}'", "a mapping {...} that is not closed, or lacks a ','"),
    ("special characters are not allowed", "a control character"),
)


class Unreadable(Exception):
    """The text cannot be read further.

    Args:
        line: where, counted from 1.
        message: what is wrong.
    """

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message


@dataclass
class Document:
    """One YAML document.

    Args:
        value: mappings, lists, text, numbers, booleans and None.
        lines: the line of each value, counted from 1; of a mapping's entry, its key's line.
        problems: (line, path, message) of what is wrong without hiding the rest; the value there is None.
    """

    value: Any = None
    lines: dict[KeyPath, int] = field(default_factory=dict)
    problems: list[tuple[int, KeyPath, str]] = field(default_factory=list)


@dataclass
class _Open:
    """A mapping or a list whose end has not been read."""

    path: KeyPath
    values: dict[str, Any] | list[Any]
    key: str | None = None
    forget: bool = False  # the key cannot be used: read its value and leave it out


def parse(text: str, *, depth: int = 0) -> Document:
    """Read one document.

    Args:
        text: the YAML.
        depth: how many mappings and lists will stand around it.

    Raises:
        Unreadable: the text is no YAML, or uses what is refused here.
    """
    builder = _Builder(MAX_DEPTH - depth)
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        mark: Any = error.problem_mark or error.context_mark
        raise Unreadable(mark.line + 1 if mark else 1, f"not valid YAML: {_plain(error.problem or str(error))}") from None
    except yaml.reader.ReaderError as error:
        raise Unreadable(text.count("\n", 0, error.position) + 1, f"not valid YAML: {_plain(str(error.reason))}") from None
    except (yaml.YAMLError, ValueError, OverflowError):  # such as the escape "\UFFFFFFFF", which the parser does not check
        raise Unreadable(builder.line, "not valid YAML: check the escapes and quotes from here on") from None
    return builder.document


def scalar(text: str) -> Any:
    """The value of plain (unquoted) text.

    Raises:
        ValueError: a number that has two readings, or none.
    """
    if text in _WORDS:
        return _WORDS[text]
    if _LEADING_ZERO.fullmatch(text):
        raise ValueError(f"{text} has a leading zero; write {text.replace('0', '', 1)} or quote it")
    if _INT.fullmatch(text):
        if len(text) > 1000:
            raise ValueError("a number of more than 1000 digits")
        return int(text)
    if _BASED_INT.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        number = float(text)
        if number in (float("inf"), float("-inf")):
            raise ValueError(f"{text} is too large for a number; write .inf for infinity")
        return number
    if match := _INFINITE.fullmatch(text):
        return float(match[1] + "inf")
    return float("nan") if _NAN.fullmatch(text) else text


def one_line(text: str, width: int = 80) -> str:
    """The text without line breaks and control characters, cut to a width."""
    text = "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
    return text if len(text) <= width else text[: width - 1] + "…"


def show(value: Any) -> str:
    """How a message names a value that it refuses."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"the text '{one_line(value, 40)}'"
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    return one_line(repr(value), 40)


class _Builder:
    """Builds a document from the parser's events, without recursion."""

    def __init__(self, max_depth: int) -> None:
        self.max_depth = max_depth
        self.document = Document()
        self.line = 1
        self._open: list[_Open] = []
        self._documents = 0

    def take(self, event: yaml.Event) -> None:
        """Add one event."""
        start: Any = event.start_mark
        self.line = start.line + 1
        if isinstance(event, yaml.AliasEvent):
            raise Unreadable(self.line, f"the alias *{one_line(str(event.anchor), 40)} is refused; write the value out")
        if isinstance(event, yaml.NodeEvent):
            self._refuse_extras(event)
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise Unreadable(self.line, "a second document begins; a config is one document")
        elif isinstance(event, yaml.ScalarEvent):
            self._take_scalar(event)
        elif isinstance(event, yaml.CollectionStartEvent):
            self._begin({} if isinstance(event, yaml.MappingStartEvent) else [])
        elif isinstance(event, yaml.CollectionEndEvent):
            self._open.pop()

    def _refuse_extras(self, event: Any) -> None:
        if event.anchor is not None:
            raise Unreadable(self.line, f"the anchor &{one_line(event.anchor, 40)} is refused; write the value out where it is used")
        if getattr(event, "tag", None) is not None:
            raise Unreadable(self.line, f"the tag {one_line(event.tag, 40)} is refused; write plain values")

    def _begin(self, values: dict[str, Any] | list[Any]) -> None:
        if self._open and isinstance(self._open[-1].values, dict) and self._open[-1].key is None:
            raise Unreadable(self.line, "a key must be one word, not a list or a mapping")
        if len(self._open) >= self.max_depth:
            raise Unreadable(self.line, f"nested deeper than {MAX_DEPTH} levels")
        self._open.append(_Open(self._store(values), values))

    def _take_scalar(self, event: yaml.ScalarEvent) -> None:
        value: Any = event.value
        wrong: str | None = None
        if any("\ud800" <= letter <= "\udfff" for letter in value):
            value, wrong = None, "half of a surrogate pair, which is no text"
        elif event.style is None:  # neither quoted nor a block of text
            try:
                value = scalar(value)
            except ValueError as error:
                value, wrong = None, str(error)
        if self._open and isinstance(self._open[-1].values, dict) and self._open[-1].key is None:
            self._take_key(value, event)
            return
        path = self._store(value)
        if wrong is not None:
            self.document.problems.append((self.line, path, wrong))

    def _take_key(self, key: Any, event: yaml.ScalarEvent) -> None:
        text = event.value
        mapping = self._open[-1]
        path = (*mapping.path, text)
        mapping.key, mapping.forget = text, True
        if not isinstance(key, str):
            self.document.problems.append(
                (self.line, path, "a key must be text; put it in quotes" if text else "a key is missing before ':'")
            )
        elif key == "<<" and event.style is None:
            raise Unreadable(self.line, "the merge key << is refused; write the values out")
        elif key in mapping.values:
            first = self.document.lines[path]
            self.document.problems.append((self.line, path, f"this key stands twice; the first is in line {first}"))
        else:
            mapping.forget = False
            self.document.lines[path] = self.line

    def _store(self, value: Any) -> KeyPath:
        """Put a value where it belongs; gives its path."""
        if not self._open:
            self.document.value = value
            self.document.lines[()] = self.line
            return ()
        parent = self._open[-1]
        if isinstance(parent.values, list):
            parent.values.append(value)
            path = (*parent.path, len(parent.values) - 1)
            self.document.lines[path] = self.line
            return path
        key, parent.key = str(parent.key), None
        if not parent.forget:
            parent.values[key] = value
        return (*parent.path, key)


def _plain(problem: str) -> str:
    """A parser's complaint in plain words."""
    for theirs, ours in _PLAIN_WORDS:
        if theirs in problem:
            return ours
    return one_line(problem, 120)
