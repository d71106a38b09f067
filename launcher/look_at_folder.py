"""What is in a folder of pictures: its parts and classes, sizes, colours, and files that cannot be read. It decides nothing."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from launcher.folder_layout import Part, find_parts
from trainer.errors import ConfigError

_PIXELS = 1_000_000_000
"""Pictures are decoded up to about so many pixels in all, half a minute's work; of more, an even selection."""
_GRAY = 8
"""Parts of a colour that differ by no more are one: JPEG rounds."""


@dataclass(frozen=True)
class Pictures:
    """What is in a folder of pictures.

    Args:
        parts: train, and valid and test where there are folders for them.
        sizes: how many pictures have which (width, height), upright.
        modes: how many have which of PIL's modes.
        gray: no picture that was looked at has a colour.
        mean: of each channel (red, green, blue) over the training pictures, in [0, 1].
        std: the same.
        bad: what is wrong with the files that cannot be read.
        decoded: how many were looked at in full.
        notes: what else one should know, a line each.
    """

    parts: dict[str, Part]
    sizes: dict[tuple[int, int], int]
    modes: dict[str, int]
    gray: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]
    bad: dict[str, str]
    decoded: int
    notes: tuple[str, ...] = ()


def look_at(folder: str) -> Pictures:
    """Look at a folder of pictures.

    Args:
        folder: one folder a class; or train, valid and test folders with these in them.

    Raises:
        ConfigError: it cannot be trained on as it is; the line says what to do.
    """
    parts, notes = find_parts(folder)
    files = [path for part in parts.values() for listed in part.files.values() for path in listed]
    sizes, suspects, modes = _headers(files)
    sound = [path for path in files if path not in suspects]
    step = -(-sum(width * height for width, height in sizes) // _PIXELS) or 1
    colours = _Colours({path for listed in parts["train"].files.values() for path in listed})
    bad = _decode([*sound[::step], *sorted(suspects)], colours.add)
    if len(bad) == len(files):
        raise ConfigError(f"{folder}: none of its {len(files)} pictures can be read; the first: {next(iter(bad.items()))[1]}")
    mean, std = colours.mean_and_std()
    return Pictures(parts, dict(Counter(sizes)), modes, colours.gray, mean, std, bad, len(sound[::step]), tuple(notes))


def _headers(files: Sequence[str]) -> tuple[list[tuple[int, int]], set[str], dict[str, int]]:
    """The sizes of all pictures that can be opened, upright; those that cannot; and the modes of the former."""
    from PIL import ExifTags, Image

    sizes, suspects = [], set()
    modes: Counter[str] = Counter()
    for path in files:
        try:
            with _silence(), Image.open(path) as image:
                turned = image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
                sizes.append(image.size[::-1] if turned else image.size)
                modes[image.mode] += 1
        except Exception:
            suspects.add(path)
    return sizes, suspects, dict(modes.most_common())


def _decode(files: Sequence[str], add: Callable[[str, Any], None]) -> dict[str, str]:
    """Decode pictures as training does; returns what is wrong with those that cannot be."""
    from trainer.data.images import ImageReader
    from trainer.data.names import UnreadableFile

    read = ImageReader("rgb")
    bad = {}
    for path in files:
        try:
            with _silence():
                add(path, read(path))
        except UnreadableFile as fault:
            bad[path] = f"{path}: {fault.why}"
    return bad


class _Colours:
    """Adds up the colours of the training pictures, and whether any of all pictures has one.

    Args:
        training: their paths.
    """

    def __init__(self, training: set[str]) -> None:
        self.gray = True
        self._training = training
        self._count = 0
        self._sum = [0.0, 0.0, 0.0]
        self._squares = [0.0, 0.0, 0.0]

    def add(self, path: str, image: Any) -> None:
        """Take one more picture, in RGB, into account."""
        from PIL import ImageChops, ImageStat

        red, green, blue = image.split()
        apart = (ImageChops.difference(red, other).getextrema()[1] for other in (green, blue))
        self.gray = self.gray and max(apart) <= _GRAY
        if path in self._training:
            found = ImageStat.Stat(image)
            self._count += found.count[0]
            self._sum = [a + b for a, b in zip(self._sum, found.sum, strict=True)]
            self._squares = [a + b for a, b in zip(self._squares, found.sum2, strict=True)]

    def mean_and_std(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Of each channel, in [0, 1], over all pixels."""
        mean = [one / max(self._count, 1) for one in self._sum]
        variance = [max(two / max(self._count, 1) - one**2, 0.0) for one, two in zip(mean, self._squares, strict=True)]
        return tuple(round(one / 255, 3) for one in mean), tuple(max(round(one**0.5 / 255, 3), 0.01) for one in variance)


@contextmanager
def _silence() -> Iterator[None]:
    """PIL warns of odd files, which are read all the same."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
