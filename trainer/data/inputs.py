"""What one input of a run is, before and after the transforms: noted at a run's start, so that new inputs can be given to its model.

The note (``inputs.json``) says how a picture, a text or a row of numbers becomes what the model was trained on, and what the classes are
called; with it the data sets themselves are not needed any more.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from trainer.config.schema import Config, Target
from trainer.data.characters import CharText
from trainer.data.keys import EVALUATION, sample_keys, seed_sample
from trainer.data.names import pair, reason
from trainer.data.text import BagOfWords
from trainer.data.transforms import Transformed, is_in_memory, is_pil, with_transforms
from trainer.data.whole_batch import WholeBatches
from trainer.files import write_atomic

log = logging.getLogger("trainer")

Kind = Literal["image", "text", "array", "other"]
_LOOKED_AT = 3
_MODES = {"RGB": "rgb", "L": "gray", "RGBA": "rgba"}
_BY_CHANNELS = {1: "gray", 3: "rgb", 4: "rgba"}
WHITE = (255, 255, 255)


@dataclass(frozen=True)
class Inputs:
    """What one input of a run is.

    Args:
        kind: image, text or array (numbers of any other shape); other: none of these.
        form: what the data set gives: ``pil``, ``tensor``, ``pixels`` (a tensor of bytes), ``rows`` (an array with the channels last),
            ``words`` (a bag of them), ``characters``, ``str``.
        mode: of an image: as of `image_folder`.
        background: of an image: the colour behind what is transparent.
        size: of an image: (width, height) before the transforms, where all have the same.
        shape: of what the model is given, for one sample; None: they differ.
        dtype: its type.
        columns: the names of the numbers of a table's row; of a text, the column in which it stands.
        classes: the classes' names.
        in_memory: the transforms act on whole batches.
    """

    kind: Kind
    form: str = ""
    mode: str = "rgb"
    background: tuple[int, ...] = WHITE
    size: tuple[int, int] | None = None
    shape: tuple[int, ...] | None = None
    dtype: str | None = None
    columns: tuple[str, ...] | None = None
    classes: tuple[str, ...] | None = None
    in_memory: bool = False


def look_at(dataset: Any, transforms: list[Any], config: Config, classes: Any) -> Inputs:
    """What the inputs of a data set are, from its first few samples.

    Args:
        dataset: behind any transforms.
        transforms: those of evaluations.
        config: the run's config.
        classes: the training set's classes, if it has any.
    """
    bare = dataset.dataset if isinstance(dataset, (Transformed, WholeBatches)) else dataset
    seen = with_transforms(bare, transforms)
    raw, given = _read(bare, config.seed), _read(seen, config.seed)
    inner, target = _innermost(bare), _target(config.data.train)
    found = _kind(raw[0] if raw else None, inner, target)
    shapes = {tuple(value.shape) for value in given if hasattr(value, "shape")}
    types = {str(torch.as_tensor(value).dtype).removeprefix("torch.") for value in given if isinstance(value, (torch.Tensor, np.ndarray))}
    sizes = {_size(value) for value in raw}
    columns = found.columns or getattr(inner, "columns", None)
    return replace(
        found,
        size=sizes.pop() if found.kind == "image" and len(sizes) == 1 else None,
        shape=shapes.pop() if len(shapes) == 1 else None,
        dtype=types.pop() if len(types) == 1 else None,
        columns=None if columns is None else tuple(map(str, columns)),
        classes=None if classes is None else tuple(map(str, classes)),
        in_memory=is_in_memory(bare),
    )


def keep(path: Path, *seen: Any, config: Config, transforms: list[Any]) -> None:
    """Note what a run's inputs are; what cannot be noted is said, and stops nothing.

    Args:
        path: the note.
        seen: the run's training, validation and test set; the last two may be None.
        config: the run's config.
        transforms: those of evaluations.
    """
    try:
        dataset = next(one for one in (*seen[1:], seen[0]) if one is not None)
        found = look_at(dataset, transforms, config, getattr(seen[0], "classes", None))
        write_atomic(path, (json.dumps(asdict(found)) + "\n").encode(), durable=False)
    except Exception as fault:
        log.warning("%s could not be written (%s); predict and export will look at the data sets instead", path.name, reason(fault))


def recall(path: Path) -> Inputs | None:
    """The note; None: there is none that can be read."""
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in facts.items()}
        return Inputs(**values)
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def _read(dataset: Any, seed: int) -> list[Any]:
    """The first few inputs, as an evaluation sees them; those that cannot be read are left out."""
    found = []
    numbers = np.arange(min(_LOOKED_AT, len(dataset)), dtype=np.int64)
    for index, key in zip(numbers.tolist(), sample_keys(numbers, seed, EVALUATION).tolist(), strict=True):
        seed_sample(key)
        try:
            found.append(pair(dataset[index])[0])
        except Exception:
            continue  # an evaluation meets it, and knows what to do about it
    return found


def _innermost(dataset: Any) -> Any:
    while getattr(dataset, "dataset", None) is not None:
        dataset = dataset.dataset
    return dataset


def _target(target: Target) -> dict[str, Any]:
    """A data set's name and arguments; of one that is in memory, those of what it holds."""
    found = {"target": target.target, **target.arguments}
    inner = found.get("of")
    return inner if target.target == "in_memory" and isinstance(inner, dict) else found


def _kind(value: Any, dataset: Any, target: dict[str, Any]) -> Inputs:
    """The kind, the form and the colours, from one bare input and what the config says."""
    if isinstance(dataset, BagOfWords):
        return Inputs("text", "words", columns=(str(target.get("text", "text")),))
    if isinstance(dataset, CharText):
        return Inputs("text", "characters", columns=("text",))
    if isinstance(value, str):
        return Inputs("text", "str", columns=("text",))
    if is_pil(value):
        own = target.get("mode") if target["target"] == "image_folder" else None
        return Inputs("image", "pil", own or _MODES.get(value.mode, "as_is"), tuple(target.get("background", WHITE)))
    if isinstance(value, np.ndarray) and value.ndim == 3 and value.shape[2] in _BY_CHANNELS and value.dtype == np.uint8:
        return Inputs("image", "rows", _BY_CHANNELS[value.shape[2]])
    if isinstance(value, (torch.Tensor, np.ndarray)):
        number = torch.as_tensor(value)
        if number.ndim == 3 and number.shape[0] in _BY_CHANNELS and min(number.shape[1:]) > 1 and _has_pixels(number):
            form = "pixels" if number.dtype == torch.uint8 else "tensor"
            return Inputs("image", form, _BY_CHANNELS[number.shape[0]], tuple(target.get("background", WHITE)))
        return Inputs("array", "tensor")
    return Inputs("array", "tensor") if isinstance(value, (int, float)) else Inputs("other")


def _has_pixels(value: torch.Tensor) -> bool:
    return value.dtype == torch.uint8 or value.is_floating_point()


def _size(value: Any) -> tuple[int, int] | None:
    if is_pil(value):
        return (int(value.width), int(value.height))
    shape: tuple[int, ...] = tuple(getattr(value, "shape", ()))
    if len(shape) != 3:
        return None
    last = isinstance(value, np.ndarray) and shape[2] in _BY_CHANNELS and value.dtype == np.uint8
    height, width = shape[:2] if last else shape[1:]
    return (int(width), int(height))
