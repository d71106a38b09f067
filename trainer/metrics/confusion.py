"""A confusion matrix as a picture: rows are the truth, columns the prediction; on a light ground of its own, in dark pages too."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

GROUND, INK, PALE, FULL = (250, 250, 250), (32, 32, 32), (236, 241, 248), (20, 74, 140)
LARGE, SMALL, SIDE = (12, 46), (40, 26), 720
"""Up to so many classes cells have so many pixels; the matrix of more classes has this side, and no names."""


def draw(matrix: Sequence[Sequence[int]], names: Sequence[str] = ()) -> Any:
    """The picture's pixels, uint8 (height, width, 3).

    A cell is the darker the greater its share of its row, so that rare classes can be read as well as common ones.

    Args:
        matrix: counts; row: the true class, column: the predicted one.
        names: of the classes; their numbers where there are none, or not so many.
    """
    from PIL import Image, ImageDraw

    count = len(matrix)
    cell = cell_size(count)
    labels = _labels(names, count) if count <= SMALL[0] else []
    font = _font(12)
    margin = 30 + max((round(font.getlength(label)) for label in labels), default=0)
    sheet = Image.new("RGB", (margin + count * cell + 10, margin + count * cell + 10), GROUND)
    shares = np.array(matrix, dtype=np.float64).reshape(count, count)
    shares /= np.maximum(shares.sum(1, keepdims=True), 1)
    sheet.paste(_cells(shares, cell), (margin, margin))
    pen = ImageDraw.Draw(sheet)
    for row in range(count if cell >= LARGE[1] or count <= SMALL[0] else 0):
        for column in range(count):
            if matrix[row][column]:
                middle = margin + column * cell + cell / 2, margin + row * cell + cell / 2
                pen.text(
                    middle,
                    short(matrix[row][column]),
                    fill=ink(shares[row, column]),
                    font=_font(12 if cell >= LARGE[1] else 9),
                    anchor="mm",
                )
    for number, label in enumerate(labels):
        pen.text((margin - 6, margin + number * cell + cell / 2), label, fill=INK, font=font, anchor="rm")
        _upright(sheet, label, font, (margin + number * cell + cell // 2, margin - 6))
    pen.text((margin + count * cell / 2, 4), "predicted", fill=INK, font=font, anchor="mt")
    _upright(sheet, "true", font, (11, margin + count * cell // 2 + 12))
    return np.array(sheet)


def as_png(matrix: Sequence[Sequence[int]], names: Sequence[str] = ()) -> bytes:
    """The picture as a PNG file."""
    from PIL import Image

    data = io.BytesIO()
    Image.fromarray(draw(matrix, names)).save(data, "PNG")
    return data.getvalue()


def cell_size(count: int) -> int:
    """How many pixels high and wide the cells of so many classes are."""
    for most, size in (LARGE, SMALL):
        if count <= most:
            return size
    return max(1, SIDE // count)


def short(count: int) -> str:
    """A count in at most four characters: ``999``, ``1.2k``, ``35k``, ``2M``."""
    for unit, name in ((10**6, "M"), (10**3, "k")):
        if count >= unit:
            share = count / unit
            return f"{share:.1f}{name}" if share < 9.95 else f"{share:.0f}{name}"
    return str(count)


def ink(share: float) -> tuple[int, int, int]:
    """The colour of a number in a cell with this share of its row."""
    return GROUND if share > 0.65 else INK


def shade(share: Any) -> Any:
    """The colour of a cell with this share of its row, in 0 … 1."""
    pale, full = np.array(PALE), np.array(FULL)
    return (pale + np.asarray(share)[..., None] * (full - pale)).round().astype(np.uint8)


def _labels(names: Sequence[str], count: int) -> list[str]:
    """What stands beside the rows; the font has the letters of Latin-1."""
    labels = [str(number) for number in range(count)]
    if len(names) != count:
        return labels
    for number, name in enumerate(map(str, names)):
        if name and name.isprintable() and name.encode("latin-1", "ignore").decode("latin-1") == name:
            labels[number] = name if len(name) <= 18 else f"{name[:15]}..."
    return labels


def _cells(shares: Any, cell: int) -> Any:
    from PIL import Image

    pixels = shade(shares).repeat(cell, axis=0).repeat(cell, axis=1)
    if cell >= SMALL[1]:
        pixels[::cell] = pixels[:, ::cell] = GROUND  # lines between the cells
    return Image.fromarray(pixels)


def _upright(sheet: Any, text: str, font: Any, end: tuple[int, int]) -> None:
    """Text that runs from `end` (the middle of its line) upwards."""
    from PIL import Image, ImageDraw

    width, height = max(1, round(font.getlength(text))), 16
    strip = Image.new("RGB", (width, height), GROUND)
    ImageDraw.Draw(strip).text((0, height / 2), text, fill=INK, font=font, anchor="lm")
    sheet.paste(strip.rotate(90, expand=True), (end[0] - height // 2, end[1] - width))


def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)
