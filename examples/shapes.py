"""Pictures to try things with: ``python -m examples.shapes`` draws circles, squares and triangles.

``pictures/`` gets a folder for each shape, to learn from, and ``new/`` a few more, whose names say what they are. Sizes, places, colours
and brightness differ, as in pictures that people take.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

SHAPES = ("circle", "square", "triangle")


def write_pictures(root: Path, per_class: int = 40, seed: int = 0, sides: tuple[int, int] = (40, 46)) -> Path:
    """Draw ``root/circle/00.png`` …, and so on for each shape.

    Args:
        root: the folder.
        per_class: pictures of each shape.
        seed: other pictures for each.
        sides: the least and the greatest width and height.
    """
    rng = np.random.default_rng(seed)
    for shape in SHAPES:
        (root / shape).mkdir(parents=True, exist_ok=True)
        for number in range(per_class):
            draw(shape, rng, sides).save(root / shape / f"{number:02}.png")
    return root


def draw(shape: str, rng: np.random.Generator, sides: tuple[int, int] = (40, 46)) -> Any:
    """One picture, as PIL has it."""
    from PIL import Image, ImageDraw

    width, height = (int(side) for side in rng.integers(sides[0], sides[1] + 1, 2))
    ground, colour = (tuple(int(part) for part in rng.integers(low, low + 60, 3)) for low in (190, 20))
    image = Image.new("RGB", (width, height), ground)
    radius = min(width, height) * rng.uniform(0.28, 0.38)
    x, y = (side / 2 + rng.uniform(-0.1, 0.1) * side for side in (width, height))
    pen = ImageDraw.Draw(image)
    if shape == "circle":
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    elif shape == "square":
        pen.rectangle((x - radius, y - radius, x + radius, y + radius), fill=colour)
    else:
        pen.polygon([(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)], fill=colour)
    return image


if __name__ == "__main__":
    here = Path(*sys.argv[1:2])
    write_pictures(here / "pictures")
    (here / "new").mkdir(exist_ok=True)
    generator = np.random.default_rng(1)
    for name in SHAPES:
        for count in range(4):
            draw(name, generator).save(here / "new" / f"{name}-{count}.png")
    print(f"drew {here / 'pictures'}, 40 of each shape, and {here / 'new'}, 4 of each")
