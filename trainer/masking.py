"""What must not stand in a run folder: passwords and tokens of a command line, of URLs and of a change that git shows.

A diff is of any language, so what is assigned to a telling name is masked whether it is quoted or not, up to where the value must end:
the quote or the bracket around it, or else the line. Rather a harmless expression is hidden than a password shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

HIDDEN = "***"

# Files of which git's diff is never recorded, whatever their case; a folder of such a name is left out whole.
SECRET_FILES = (".env*", "*.pem", "*.key", "*.p12", "*.pfx", "*secret*", "*credential*", ".netrc", ".npmrc", ".pypirc", "id_*", "*.kdbx")

_KEYS = r"(?:api|access|private|auth|secret|signing|encryption|account|storage)[-_]?key"
_WORDS = rf"secrets?|passw(?:or)?d|passphrase|passcode|pwd|credentials?|authorization|{_KEYS}"
_NAME = rf"[a-z0-9]*token|[a-z]*passw(?:or)?d|{_WORDS}"
_KEY = re.compile(rf"(?:^|[._-])(?:{_NAME})$", re.IGNORECASE)
_PARTS = re.compile(rf"(?:^|[._-])(?:{_NAME})(?=$|[._-])", re.IGNORECASE)

# `token = `, `"token": `, `environ["TOKEN"] = `, `setdefault("TOKEN", `
_TELLING = re.compile(
    rf"(?:token|{_WORDS}|(?<=[_-])pass)(?:\\?['\"]\]?\s*,|(?:\\?['\"])?\]?\s*(?::=|=>|[=!]=|[:=]))\s*",
    re.IGNORECASE,
)
# A value that comes in the lines below: `password: |`, `secrets:`, `TOKEN = (`
_BLOCK = re.compile(r"[+\- ]?(\s*)(- +)?['\"]?[\w.-]*['\"]?\s*[:=]\s*(?:[|>][-+\d]*|[(\[{\\])?\s*(?:#.*)?")
_QUOTED = re.compile(r"([bru]{0,2})(['\"])(?:\\.|(?!\2)[^\\])*\2([,;]?\s*)", re.IGNORECASE)
_TYPE = r"(?:str|bytes|int|bool|float|None|null)"
_HARMLESS = re.compile(rf"(?:{_TYPE}(?:\s*[|=]\s*{_TYPE})*|''|\"\"|\*\*\*)?:?[,;]?")
_OPTION = re.compile(rf"((?<!-)--[\w-]{{0,40}}?(?:token|{_WORDS})\s+)[^\s-]\S*", re.IGNORECASE)
_URL = re.compile(r"(\b[A-Za-z][A-Za-z0-9+.-]{0,20}://)(?:[^\s/:@'\"]{0,64}:(?!\d+/)[^\s'\"]{1,256}|[^\s/'\"]{1,256})@")
_USER = re.compile(r"((?<![\w%+.-])[\w%+.-]{1,64}:)[^\s'\"/,;(){}\[\]]{1,256}@(?!sha256:)(?=\w)")
_BEARER = re.compile(r"(\bBearer\s+)[^\s'\"]{8,}", re.IGNORECASE)
_KNOWN = re.compile(r"\b(?:gh[opsu]_|github_pat_|glpat-|hf_|sk-|xox[abps]-)[A-Za-z0-9_-]{16,}|\bAKIA[0-9A-Z]{16}\b")
_PEM = re.compile(r"(-----BEGIN[^\n]{0,40}PRIVATE KEY-----).*?(-----END[^\n]{0,40}PRIVATE KEY-----|\Z)", re.DOTALL)
_APOSTROPHE = re.compile(r"\w(?<!\b[bruBRU])(?<!\b[bruBRU]{2})$")
_COMMA = re.compile(r"['\"],|.,(?:\s|$)")  # that ends a value; in `ab,cd` it may be a part of a password
_CLOSING = {"(": ")", "[": "]", "{": "}"}


def masked(arguments: Sequence[str]) -> list[str]:
    """A command line without its secrets: ``key=value`` and ``--key value`` with a telling key, and passwords in URLs."""
    found: list[str] = []
    value_follows = False
    for argument in arguments:
        key, equals, _ = argument.partition("=")
        if value_follows and not argument.startswith("-"):
            found.append(HIDDEN)
        elif equals and _PARTS.search(key):
            found.append(f"{key}={HIDDEN}")
        else:
            found.append(masked_text(argument))
        value_follows = not equals and argument.startswith("-") and _KEY.search(argument.lstrip("-")) is not None
    return found


def masked_text(text: str) -> str:
    """A text without passwords in URLs, without what is assigned to a telling name, and without keys and tokens of well-known forms."""
    text = _PEM.sub(rf"\1{HIDDEN}\2", text)
    text = _USER.sub(rf"\1{HIDDEN}@", _URL.sub(rf"\1{HIDDEN}@", text))
    text = "\n".join(_masked_lines(text.split("\n")))
    text = _BEARER.sub(rf"\1{HIDDEN}", _OPTION.sub(rf"\1{HIDDEN}", text))
    return _KNOWN.sub(HIDDEN, text)


def _masked_lines(lines: Sequence[str]) -> Iterator[str]:
    """Line by line, and the lines below one whose value they are."""
    indent: int | None = None  # of the line whose value the deeper ones are
    dashes, quotes = False, ""
    for line in lines:
        sign, rest = (line[:1], line[1:]) if line[:1] in ("+", "-", " ") else ("", line)
        space = rest[: len(rest) - len(rest.lstrip())]
        if line.startswith(("diff --git ", "@@ ")):
            indent, quotes = None, ""
        if quotes:  # in a string of many lines
            _, closed, after = line.partition(quotes)
            yield f"{sign}{HIDDEN}{closed}{after}"
            quotes = "" if closed else quotes
            continue
        if indent is not None and (len(space) > indent or (dashes and rest[len(space) :].startswith("- ")) or not rest.strip()):
            yield f"{sign}{space}{HIDDEN}" if rest.strip() else line
            continue
        indent = None
        shown, open_ended, quotes = _masked_line(line)
        if open_ended and (match := _BLOCK.fullmatch(line)):
            indent, dashes = len(space), not match[2]
        yield shown


@dataclass
class _Place:
    """What a place in a line is in: a string, and brackets."""

    quote: str = ""
    brackets: list[str] = field(default_factory=list)

    def take(self, line: str, begin: int, end: int) -> None:
        """Go on over a part of a line."""
        at = begin
        while at < end:
            char = line[at]
            if char == "\\":
                at += 1
            elif self.quote:
                self.quote = "" if char == self.quote else self.quote
            elif char in "'\"":
                # The one in "don't" opens nothing; that of b'…' does.
                self.quote = "" if char == "'" and _APOSTROPHE.search(line[max(0, at - 3) : at]) else char
            elif char in _CLOSING:
                self.brackets.append(char)
            elif self.brackets and char == _CLOSING[self.brackets[-1]]:
                self.brackets.pop()
            at += 1

    def end_of_value(self, line: str, begin: int) -> int:
        """Where a value ends that begins here."""
        if self.quote:
            found = re.compile(rf"(?:\\.|[^\\{self.quote}])*").match(line, begin)
            return found.end() if found else len(line)
        if not self.brackets:
            return len(line)
        inner, at = _Place(), begin
        while at < len(line):
            ends = line[at] == _CLOSING[self.brackets[-1]] or (line[at] == "," and _COMMA.match(line, at - 1))
            if ends and not inner.quote and not inner.brackets:
                return at
            step = 2 if line[at] == "\\" else 1
            inner.take(line, at, at + step)
            at += step
        return len(line)


def _masked_line(line: str) -> tuple[str, bool, str]:
    """A line without its secrets; whether the last one is not in this line, but below; the quotes of a string that goes on below."""
    parts, position, place, open_ended, quotes = [], 0, _Place(), False, ""
    while match := _TELLING.search(line, position):
        place.take(line, position, match.end())
        end = place.end_of_value(line, match.end())
        value = line[match.end() : end]
        parts += [line[position : match.end()], _hidden(value)]
        position = end
        open_ended = end == len(line)
        mark = re.match(r"[bruBRU]{0,2}(\"\"\"|\'\'\')", value)
        quotes = mark[1] if open_ended and mark and value.count(mark[1]) == 1 else ""
    return "".join([*parts, line[position:]]), open_ended, quotes


def _hidden(value: str) -> str:
    """What stands in a value's place."""
    if _HARMLESS.fullmatch(value.strip()):
        return value
    quoted = _QUOTED.fullmatch(value)
    if quoted is None:
        return HIDDEN + value[len(value.rstrip()) :]
    return f"{quoted[1]}{quoted[2]}{HIDDEN}{quoted[2]}{quoted[3]}"
