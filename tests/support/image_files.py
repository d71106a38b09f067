"""Writes image files of every kind that people have: palettes, transparency, 16 bits, CMYK, rotated by EXIF, corrupt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def write_folder(root: Path, per_class: int = 6, size: tuple[int, int] = (12, 10), classes: tuple[str, ...] = ("ants", "bees")) -> Path:
    """``root/ants/0.png`` …: noise around another colour for each class; `size` is (width, height)."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for number, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(per_class):
            pixels = rng.integers(0, 56, (size[1], size[0], 3), dtype=np.uint8)
            pixels[:, :, number % 3] += 200
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root


def write_kinds(folder: Path) -> dict[str, Path]:
    """One file of each kind, 4×2 pixels, by name; the colours are said in the tests."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    made: dict[str, Any] = {
        "rgb.png": Image.new("RGB", (4, 2), RED),
        "gray.png": Image.new("L", (4, 2), 100),
        "one_bit.png": Image.new("1", (4, 2), 1),
        "alpha.png": Image.new("RGBA", (4, 2), (*BLUE, 0)),
        "half.png": Image.new("RGBA", (4, 2), (0, 0, 0, 128)),
        "gray_alpha.png": Image.new("LA", (4, 2), (0, 0)),
        "sixteen.png": Image.fromarray(np.full((2, 4), 128 * 257, dtype=np.uint16)),
        "cmyk.jpg": Image.new("CMYK", (4, 2), (0, 255, 255, 0)),
        "cmyk.tif": Image.new("CMYK", (4, 2), (255, 0, 255, 0)),
        "real.tif": Image.fromarray(np.full((2, 4), 0.5, dtype=np.float32)),
    }
    palette = Image.new("P", (4, 2), 1)
    palette.putpalette([*RED, *GREEN, *BLUE])
    for name, image in made.items():
        image.save(folder / name)
    palette.save(folder / "palette.png")
    palette.save(folder / "clear_palette.png", transparency=1)
    upright = np.zeros((2, 4, 3), dtype=np.uint8)
    upright[:, :2] = RED
    exif = Image.Exif()
    exif[0x0112] = 6  # as seen, the picture is to be turned by 90 degrees clockwise: its left half comes to the top
    Image.fromarray(upright).save(folder / "turned.png", exif=exif)
    return {path.stem if path.suffix == ".png" else path.name: path for path in folder.iterdir()}


def write_corrupt(folder: Path) -> dict[str, Path]:
    """Files that are called images and cannot be decoded, each in its own way."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    noise.save(folder / "whole.jpg")
    noise.save(folder / "whole.png")
    jpeg, png = (folder / "whole.jpg").read_bytes(), (folder / "whole.png").read_bytes()
    contents = {
        "empty.jpg": b"",
        "text.jpg": b"<html>404 not found</html>",
        "half.jpg": jpeg[: len(jpeg) // 2],
        "half.png": png[: len(png) // 2],
        "flipped.png": png[:3000] + bytes([png[3000] ^ 255]) + png[3001:],
    }
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    for name in ("whole.jpg", "whole.png"):
        (folder / name).unlink()
    return {name: folder / name for name in contents}
