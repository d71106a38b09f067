"""Inputs as pictures on one sheet, with their labels: for a PNG file and for TensorBoard."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainer.files import write_atomic

_CELL, _TITLE, _GAP = 112, 14, 4

Pictures = Sequence[tuple[torch.Tensor, str]]


def as_picture(value: torch.Tensor) -> torch.Tensor | None:
    """An input as (channels, height, width) with one, three or four channels, its range stretched to 0 … 1; None: it is no picture."""
    while value.ndim > 3:
        value = value[len(value) // 2]  # the middle frame of a clip
    value = value.unsqueeze(0) if value.ndim == 2 else value
    if (
        value.ndim != 3
        or value.shape[0] not in (1, 3, 4)
        or min(value.shape[1:]) < 2
        or not (value.is_floating_point() or value.dtype == torch.uint8)
    ):
        return None
    value = torch.nan_to_num(value.float())
    low, high = value.min(), value.max()
    return (value - low) / (high - low) if high > low else value.clamp(0, 1)


def grid(pictures: Pictures, columns: int = 4) -> Any:
    """A PIL image of some pictures with their labels below them.

    Args:
        pictures: each (channels, height, width) in [0, 1], and its label.
        columns: pictures in a row.
    """
    from PIL import Image, ImageDraw

    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * (_CELL + _GAP) + _GAP, rows * (_CELL + _TITLE + _GAP) + _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (value, label) in enumerate(pictures):
        pixels = (value * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).convert("RGB")
        scale = _CELL / max(picture.size)
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        picture = picture.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)
        x, y = _GAP + number % columns * (_CELL + _GAP), _GAP + number // columns * (_CELL + _TITLE + _GAP)
        sheet.paste(picture, (x + (_CELL - size[0]) // 2, y + (_CELL - size[1]) // 2))
        draw.text((x + 2, y + _CELL), label[:18].encode("latin-1", "replace").decode("latin-1"), fill="black")
    return sheet


def write_grid(pictures: Pictures, path: Path) -> None:
    """Write the pictures to a PNG file."""
    data = io.BytesIO()
    grid(pictures).save(data, "PNG")
    write_atomic(path, data.getvalue(), durable=False)


def to_tensorboard(pictures: Pictures, folder: Path, tag: str) -> None:
    """Add the pictures to a folder of TensorBoard's."""
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder))
    writer.add_image(tag, np.array(grid(pictures)), 0, dataformats="HWC")
    writer.close()
