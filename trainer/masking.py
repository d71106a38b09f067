"""What must not stand in a run folder: passwords and tokens of a command line, of URLs and of a change that git shows."""

from __future__ import annotations

import re
from collections.abc import Sequence

HIDDEN = "***"

# Files of which git's diff is never recorded, whatever their case; a folder of such a name is left out whole.
SECRET_FILES = (".env*", "*.pem", "*.key", "*.p12", "*.pfx", "*secret*", "*credential*", ".netrc", ".npmrc", ".pypirc", "id_*", "*.kdbx")

_NAME = r"[a-z0-9]*token|secrets?|[a-z]*passw(?:or)?d|passphrase|pwd|(?:api|access|private|auth)[-_]?key|credentials?"
_KEY = re.compile(rf"(?:^|[._-])(?:{_NAME})$", re.IGNORECASE)
_PARTS = re.compile(rf"(?:^|[._-])(?:{_NAME})(?=$|[._-])", re.IGNORECASE)
_URL = re.compile(r"(\b[A-Za-z][A-Za-z0-9+.-]*://)[^\s/@'\"]+@")
_ASSIGNED = re.compile(rf"(?<![A-Za-z0-9])((?:{_NAME})['\"]?\s*[:=]\s*)(['\"])[^'\"\n]+\2", re.IGNORECASE)
_INSIDE = re.compile(rf"((?<![A-Za-z0-9])(?:{_NAME})['\"]?\s*[:=]\s*)(?!['\"])[^\s,}}\]]+", re.IGNORECASE)
_KNOWN = re.compile(r"\b(?:gh[opsu]_|github_pat_|glpat-|hf_|sk-|xox[abps]-)[A-Za-z0-9_-]{16,}|\bAKIA[0-9A-Z]{16}\b")


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
            found.append(_INSIDE.sub(rf"\1{HIDDEN}", masked_text(argument)) if equals else masked_text(argument))
        value_follows = not equals and argument.startswith("-") and _KEY.search(argument.lstrip("-")) is not None
    return found


def masked_text(text: str) -> str:
    """A text without passwords in URLs, without strings that are assigned to a telling name, and without tokens of well-known forms."""
    text = _URL.sub(rf"\1{HIDDEN}@", text)
    text = _ASSIGNED.sub(rf"\1\2{HIDDEN}\2", text)
    return _KNOWN.sub(HIDDEN, text)
