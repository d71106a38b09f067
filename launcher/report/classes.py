"""Which classes are taken for which, and some predictions to look at. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from launcher.report.markup import Markup, folded, join, table, tag
from launcher.report.words import figure
from launcher.standing import number

MOST_CELLS = 30
"""A matrix of more classes is drawn, without its numbers."""
PAIRS = 10
PICTURE = re.compile(r"data:image/png;base64,[A-Za-z0-9+/=]+")


def names_of(found: dict[str, Any], count: int) -> list[str]:
    """The classes' names; their numbers where there are none."""
    names = found.get("classes")
    return [str(name) for name in names] if isinstance(names, list) and len(names) == count else [str(n) for n in range(count)]


def matrix_of(found: dict[str, Any]) -> list[list[int]] | None:
    """A square of counts, or nothing."""
    value = found.get("confusion")
    if not isinstance(value, list) or not value:
        return None
    square = all(isinstance(row, list) and len(row) == len(value) for row in value)
    return value if square and all(isinstance(cell, int) and cell >= 0 for row in value for cell in row) else None


def evaluation(split: str, found: dict[str, Any]) -> Markup:
    """One split's confusion matrix, its worst pairs, and each class's figures."""
    matrix = matrix_of(found)
    if matrix is None:
        return Markup("")
    names = names_of(found, len(matrix))
    what = {"valid": "validation set", "test": "test set", "train": "training set"}.get(split, split)
    drawn = _cells(matrix, names, what) if len(matrix) <= MOST_CELLS else _drawn(matrix, what)
    beside = tag("div", _pairs(matrix, names, what), _per_class(found.get("per_class"), names, what))
    step = f" at step {found['step']}" if isinstance(found.get("step"), int) else ""
    return tag("section", tag("h3", f"The {what}{step}"), tag("div", drawn, beside, class_="beside"), class_="evaluation")


def evaluated(found: Sequence[dict[str, Any]]) -> Markup:
    """What was evaluated when training was over: the metrics of each, and its confusion matrix."""
    each = [(one, one["metrics"]) for one in found if isinstance(one.get("metrics"), dict)]
    if not each:
        return Markup("")
    names = list(dict.fromkeys(str(name) for _, metrics in each for name in metrics))
    heads = ["set", "checkpoint", "samples", *(name.replace("_", " ") for name in names)]
    rows = []
    for one, metrics in each:
        averaged = ", averaged weights" if one.get("averaged") is True else ""
        where = f"{one.get('checkpoint', '–')}{averaged}"
        rows.append([one.get("split", "–"), where, one.get("samples", "–"), *(figure(name, metrics.get(name)) for name in names)])
    parts = [folded(f"{one.get('split')}, {one.get('checkpoint')}", made) for one, _ in each if (made := _matrix_alone(one))]
    return join([table("What ostinato evaluate found", heads, rows), *parts])


def _matrix_alone(one: dict[str, Any]) -> Markup:
    matrix = matrix_of(one)
    if matrix is None:
        return Markup("")
    names, what = names_of(one, len(matrix)), f"{one.get('split')} set at {one.get('checkpoint')}"
    drawn = _cells(matrix, names, what) if len(matrix) <= MOST_CELLS else _drawn(matrix, what)
    return tag("div", drawn, tag("div", _pairs(matrix, names, what), _per_class(one.get("per_class"), names, what)), class_="beside")


def _cells(matrix: Sequence[Sequence[int]], names: Sequence[str], what: str) -> Markup:
    rows = []
    for name, row in zip(names, matrix, strict=True):
        total = sum(row) or 1
        cells = [_cell(count, count / total) for count in row]
        rows.append(tag("tr", tag("th", name, scope="row"), *cells))
    heads = tag("tr", tag("td", "truth ↓ predicted →", class_="corner"), *(tag("th", name, scope="col") for name in names))
    caption = f"Confusion matrix of the {what}: rows are true, columns said; the fuller the colour, the greater the share of the row"
    made = tag("table", tag("caption", caption), tag("thead", heads), tag("tbody", *rows), class_="confusion")
    return tag("div", made, class_="scroll", tabindex="0", role="region", aria_label=f"Confusion matrix of the {what}")


def _cell(count: int, share: float) -> Markup:
    if not count:
        return tag("td", tag("span", "0", class_="unseen"))
    deep = " ".join(name for name, limit in (("deep", 0.75), ("deep-dark", 0.5)) if share >= limit)
    return tag("td", count, style=f"--share:{100 * share:.0f}%", class_=f"count {deep}".strip())


def _drawn(matrix: Sequence[Sequence[int]], what: str) -> Markup:
    count, levels = len(matrix), 5
    paths = [""] * (levels + 1)
    for y, row in enumerate(matrix):
        total = sum(row) or 1
        for x, cell in enumerate(row):
            if cell:
                paths[max(1, round(levels * cell / total))] += f"M{x} {y}h1v1h-1z"
    drawn = [tag("path", d=path, style=f"--share:{100 * level // levels}%") for level, path in enumerate(paths) if path]
    right = sum(matrix[n][n] for n in range(count))
    total = sum(map(sum, matrix)) or 1
    words = f"{count} classes; {right:,} of {total:,} on the diagonal. The pairs most often mistaken are in the table."
    title = f"Confusion matrix of the {what}"
    picture = tag(
        "svg",
        tag("title", title),
        tag("desc", words),
        *drawn,
        viewBox=f"0 0 {count} {count}",
        role="img",
        aria_label=title,
        class_="heat",
    )
    return tag("figure", picture, tag("figcaption", f"{title}: rows are what is true, columns what was said. {words}"), class_="matrix")


def _pairs(matrix: Sequence[Sequence[int]], names: Sequence[str], what: str) -> Markup:
    wrong = [(cell, y, x) for y, row in enumerate(matrix) for x, cell in enumerate(row) if x != y and cell]
    if not wrong:
        return tag("p", "Nothing was mistaken.", class_="good")
    rows = []
    for count, y, x in sorted(wrong, key=lambda pair: (-pair[0], pair[1:]))[:PAIRS]:
        rows.append((names[y], names[x], count, f"{100 * count / sum(matrix[y]):.1f} %"))
    return table(f"Most often mistaken, {what}", ["is", "was taken for", "times", "of its samples"], rows, numbers=False)


def _per_class(found: object, names: Sequence[str], what: str) -> Markup | None:
    if not isinstance(found, list) or len(found) != len(names) or not all(isinstance(row, dict) for row in found):
        return None
    heads = ["class", "samples", "precision", "recall", "F1"]
    worst = sorted(zip(names, found, strict=True), key=lambda pair: number(pair[1].get("f1")) or 0.0)
    rows = [
        (name, row.get("samples", "–"), *(figure("accuracy", row.get(key)) for key in ("precision", "recall", "f1"))) for name, row in worst
    ]
    return folded("Each class, the worst first", table(f"Figures for each class, {what}", heads, rows))


def samples(split: str, found: dict[str, Any]) -> Markup:
    """Some predictions: the picture, what is true, what was said and how surely."""
    listed = found.get("samples")
    cards = [_card(sample) for sample in listed if isinstance(sample, dict)] if isinstance(listed, list) else []
    if not cards:
        return Markup("")
    what = {"valid": "validation set", "test": "test set"}.get(split, split)
    note = tag("p", f"From the {what}: first what was surely wrong, then what was least sure, then some as they come.", class_="note")
    return join([note, tag("ul", *cards, class_="samples")])


def _card(sample: dict[str, Any]) -> Markup:
    right = sample.get("right") is True
    truth, guesses = sample.get("truth", "–"), sample.get("guesses")
    picture = sample.get("picture")
    shown = None
    if isinstance(picture, str) and PICTURE.fullmatch(picture):
        shown = tag("img", src=picture, alt=f"A sample of class {truth}", width="96", height="96")
    said = []
    for guess in (one for one in guesses if isinstance(one, dict)) if isinstance(guesses, list) else ():
        label, sure = guess.get("label"), number(guess.get("probability")) or 0.0
        said.append(tag("li", tag("span", label), tag("b", f"{100 * sure:.1f} %"), style=f"--sure:{100 * sure:.1f}%"))
    word, sign = ("right", "✓") if right else ("wrong", "✕")
    verdict = tag("span", tag("span", sign, aria_hidden="true"), f" {word}", class_=word)
    head = tag("p", verdict, " ", tag("span", f"truth: {truth}"))
    return tag("li", shown, head, tag("ol", *said) if said else None, class_="sample")
