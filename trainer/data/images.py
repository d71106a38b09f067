"""Image files of any kind in one folder a class, decoded to the colours that the config asks for."""

from __future__ import annotations

import importlib
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from trainer.data.names import UnreadableFile
from trainer.errors import TrainingError
from trainer.vision import import_torchvision

Mode = Literal["rgb", "gray", "rgba", "as_is"]
_PIL_MODES = {"rgb": "RGB", "gray": "L", "rgba": "RGBA"}


class ImageReader:
    """Decodes an image file, turned upright as its EXIF data say.

    Args:
        mode: rgb, gray (8 bits), rgba, or as_is: as the file has it, not even turned.
        background: the colour (red, green, blue) behind what is transparent, where the mode has no transparency.
    """

    def __init__(self, mode: Mode = "rgb", background: Sequence[int] = (255, 255, 255)) -> None:
        if mode != "as_is" and mode not in _PIL_MODES:
            raise TrainingError(f"image_folder: there is no mode {mode!r}; use rgb, gray, rgba or as_is")
        self.mode = mode
        self.background = tuple(background)
        if len(self.background) != 3 or not all(isinstance(part, int) and 0 <= part <= 255 for part in self.background):
            raise TrainingError(f"image_folder: background {list(self.background)!r} is no colour; write [red, green, blue], each 0 … 255")

    def __call__(self, path: str) -> Any:
        """The image, decoded.

        Raises:
            UnreadableFile: names the file.
        """
        from PIL import Image, UnidentifiedImageError

        try:
            with Image.open(path) as image:
                image.load()
                return image.copy() if self.mode == "as_is" else self.converted(image)
        except MemoryError:
            raise
        except FileNotFoundError as error:
            raise UnreadableFile(path, "no such file") from error
        except UnidentifiedImageError as error:
            raise UnreadableFile(path, "no image, or of a kind that is not known") from error
        except (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error, Image.DecompressionBombError) as error:
            lines = str(error).strip().splitlines()
            raise UnreadableFile(path, lines[0] if lines else type(error).__name__) from error

    def converted(self, image: Any) -> Any:
        """A decoded image, upright and in the colours that are asked for.

        Raises:
            ValueError: its pixels are numbers without a known range.
        """
        from PIL import Image, ImageOps

        if self.mode == "as_is":
            return image
        image = ImageOps.exif_transpose(image)
        wanted = _PIL_MODES[self.mode]
        if image.mode.startswith("I"):
            image = _eight_bits(image)
        elif image.mode == "F":
            raise ValueError("its pixels are real numbers, whose range is not known; use mode: as_is")
        if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
            image = image.convert("RGBA")
            if wanted != "RGBA":
                image = Image.alpha_composite(Image.new("RGBA", image.size, (*self.background, 255)), image).convert("RGB")
        elif image.mode == "LAB":
            image = _from_lab(image)
        elif image.mode not in ("RGB", "L", "1"):
            image = image.convert("RGB")  # palettes, CMYK, YCbCr, HSV
        return image.convert(wanted)


def _eight_bits(image: Any) -> Any:
    """A grey image of 16 bits at 8; PIL itself would make everything above 255 white."""
    from PIL import Image

    values = np.asarray(image).astype(np.int64)
    if values.size and (values.min() < 0 or values.max() > 65535):
        raise ValueError("its pixels are whole numbers beyond 16 bits, whose range is not known; use mode: as_is")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


def _from_lab(image: Any) -> Any:
    from PIL import ImageCms

    transform = ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
    return ImageCms.applyTransform(image, transform)


def image_folder(root: str, mode: Mode = "rgb", background: Sequence[int] = (255, 255, 255)) -> Any:
    """Images in one folder a class, ``root/cat/1.jpg``: ImageNet's layout, and most people's own data.

    Args:
        root: the folder that holds the classes' folders.
        mode: rgb, gray (8 bits), rgba, or as_is: as each file has it.
        background: the colour (red, green, blue) behind what is transparent.

    Raises:
        TrainingError: there is no such folder, or a class has no image.
    """
    reader = ImageReader(mode, background)
    if not Path(root).is_dir():
        raise TrainingError(f"image_folder: {Path(root).absolute()}: no such folder; name one that holds a folder of images a class")
    import_torchvision()
    made = importlib.import_module("torchvision.datasets").ImageFolder
    try:
        return made(root, loader=reader)
    except FileNotFoundError as missing:
        why = str(missing).splitlines()[0].rstrip(".")
        raise TrainingError(f"image_folder: {Path(root).absolute()}: {why}; expected one folder of images a class") from missing
