"""The picture of a confusion matrix: what it shows, and that it can be read."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.metrics.confusion import FULL, GROUND, INK, LARGE, PALE, draw, ink, shade, short


def luminance(colour: tuple[int, int, int]) -> float:
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in (value / 255 for value in colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: tuple[int, int, int], two: tuple[int, int, int]) -> float:
    """As in WCAG: 1 … 21."""
    light, dark = sorted((luminance(one), luminance(two)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def cell(pixels: np.ndarray, row: int, column: int, count: int) -> np.ndarray:
    """The pixels of one cell without its border; the matrix ends 10 pixels before the picture does."""
    size = LARGE[1]
    end = pixels.shape[0] - 10
    top, left = end - (count - row) * size, end - (count - column) * size
    return pixels[top + 2 : top + size - 1, left + 2 : left + size - 1]


def test_a_cell_is_the_darker_the_greater_its_share_of_the_true_class() -> None:
    pixels = draw([[9, 0, 0], [0, 1, 1], [0, 0, 0]])
    corners = [[tuple(cell(pixels, row, column, 3)[0, 0].tolist()) for column in range(3)] for row in range(3)]
    half = tuple(shade(0.5).tolist())
    assert corners == [[FULL, PALE, PALE], [PALE, half, half], [PALE, PALE, PALE]]


def test_each_cell_tells_its_count_and_an_empty_one_tells_none() -> None:
    one, other = draw([[5, 5], [5, 5]]), draw([[5, 5], [6, 6]])
    assert (cell(one, 0, 0, 2) == cell(other, 0, 0, 2)).all()
    assert (cell(one, 1, 0, 2) != cell(other, 1, 0, 2)).any()
    assert len(np.unique(cell(draw([[5, 0], [0, 5]]), 0, 1, 2).reshape(-1, 3), axis=0)) == 1


def test_names_stand_beside_the_rows_and_what_the_font_lacks_is_told_by_number() -> None:
    matrix = [[3, 1], [0, 4]]
    named, numbered = draw(matrix, ["ants", "bees"]), draw(matrix)
    assert named.shape[1] > numbered.shape[1]
    assert (draw(matrix, ["ants", "wasps"]) != draw(matrix, ["bees", "wasps"])).any()
    for names in (["猫", "犬"], ["only one"], ["", "\n"]):
        assert np.array_equal(draw(matrix, names), numbered), names


def test_everything_written_can_be_read_on_a_light_and_on_a_dark_page() -> None:
    assert contrast(INK, GROUND) > 7
    for share in np.linspace(0, 1, 101):
        assert contrast(ink(share), tuple(shade(share).tolist())) >= 3.5, share
    pixels = draw([[3, 1], [0, 4]], ["ants", "bees"])
    assert pixels.shape[2] == 3  # nothing shines through
    assert all(tuple(pixels[y, x].tolist()) == GROUND for y in (0, -1) for x in (0, -1))


@pytest.mark.parametrize("count", [1, 2, 12, 13, 40, 41, 365, 1000])
def test_any_number_of_classes_gives_a_picture_of_a_sane_size(count: int) -> None:
    pixels = draw(np.eye(count, dtype=int).tolist(), [f"class {number}" for number in range(count)])
    assert pixels.dtype == np.uint8
    assert max(pixels.shape) <= 1200
    dark = (pixels == FULL).all(2)
    assert dark.any()
    assert dark.sum() < dark.size / (2 if count > 2 else 1)


def test_counts_are_short() -> None:
    counts = {0: "0", 999: "999", 1000: "1.0k", 1249: "1.2k", 9949: "9.9k", 9960: "10k", 35_400: "35k", 2_000_000: "2.0M"}
    assert {count: short(count) for count in counts} == counts
