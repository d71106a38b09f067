"""HTML from python values: whatever is not made here is text, and is escaped."""

from __future__ import annotations

import html
import re
from typing import Any

NEVER = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
"""Characters that no page may hold; a name of a file may."""

VOID = frozenset({"meta", "br", "img", "input", "hr"})


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def text(value: object) -> Markup:
    """A value as text of the page; markup stays what it is."""
    if isinstance(value, Markup):
        return value
    return Markup(html.escape(NEVER.sub("\ufffd", str(value)), quote=True))


def join(parts: Any, between: str = "") -> Markup:
    """Some values one after the other; None is left out."""
    return Markup(between.join(text(part) for part in parts if part is not None))


def tag(name: str, /, *inside: Any, **attributes: Any) -> Markup:
    """An element.

    Args:
        name: the element's.
        inside: what it holds, in order; None is left out.
        attributes: ``class_`` is class, ``data_x`` is data-x; None and False are left out, True stands without a value.
    """
    said = "".join(_attribute(key, value) for key, value in attributes.items() if value is not None and value is not False)
    if name in VOID:
        return Markup(f"<{name}{said}>")
    return Markup(f"<{name}{said}>{join(inside)}</{name}>")


def _attribute(key: str, value: object) -> str:
    # An attribute is escaped even if it is markup: markup has quotes of its own.
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{text(str(value))}"'


def table(caption: object, heads: Any, rows: Any, *, numbers: bool = True, class_: str = "") -> Markup:
    """A table that scrolls within itself where it is too wide; the first cell of each row is its head.

    Args:
        caption: what it shows.
        heads: the columns.
        rows: each as long as the heads.
        numbers: cells but the first are set flush right.
        class_: more classes.
    """
    body = [tag("tr", tag("th", row[0], scope="row"), *(tag("td", cell) for cell in row[1:])) for row in map(list, rows)]
    classes = " ".join(filter(None, ("numbers" if numbers else "", class_))) or None
    inner = tag(
        "table",
        tag("caption", caption),
        tag("thead", tag("tr", *(tag("th", head, scope="col") for head in heads))),
        tag("tbody", *body),
        class_=classes,
    )
    # Whoever has no mouse must be able to scroll it: the box takes the focus.
    return tag("div", inner, class_="scroll", tabindex="0", role="region", aria_label=caption)


def folded(summary: object, *inside: Any, is_open: bool = False) -> Markup:
    """What is shown on request."""
    return tag("details", tag("summary", summary), *inside, open=is_open)
