"""Files and folders → the inputs in them: a picture a file, a text a line, an array's or a table's rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from trainer.data.inputs import Inputs
from trainer.data.table import read_table
from trainer.errors import TrainingError

TEXT, TABLE, ARRAY = (".txt",), (".csv", ".tsv"), (".npy", ".npz")


class Given(NamedTuple):
    """One input, or why a file has none."""

    name: str
    """The file; with ``:line`` or ``[row]`` where it has several."""
    value: Any = None
    fault: str | None = None


def inputs_in(paths: Sequence[str], inputs: Inputs) -> Iterator[Given]:
    """The inputs of files and folders, one after another; of a folder, at any depth, those files that the run's kind of input can be in.

    Args:
        paths: files and folders.
        inputs: what the run's inputs are.
    """
    suffixes = known(inputs)
    for path in map(Path, paths):
        if not path.is_dir():
            yield from _in_file(path, inputs, suffixes)
            continue
        files = sorted(p for p in path.rglob("*") if p.suffix.lower() in suffixes and p.is_file() and not _hidden(p, path))
        if not files:
            yield Given(str(path), fault=f"a folder without files that this run could read ({_some(suffixes)})")
        for file in files:
            yield from _in_file(file, inputs, suffixes)


def known(inputs: Inputs) -> tuple[str, ...]:
    """The endings of files in which a run's kind of input can be."""
    if inputs.kind == "text":
        return (*TEXT, *TABLE)
    if inputs.kind == "array":
        return (*ARRAY, *(TABLE if inputs.shape is None or len(inputs.shape) == 1 else ()))
    from PIL import Image

    Image.init()
    pictures = tuple(sorted(suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN))
    return pictures + (ARRAY if inputs.form in ("tensor", "pixels") else ())


def _in_file(path: Path, inputs: Inputs, suffixes: tuple[str, ...]) -> Iterator[Given]:
    suffix = path.suffix.lower()
    if not path.exists():
        yield Given(str(path), fault="no such file")
        return
    if inputs.kind == "image" and suffix not in ARRAY:
        yield Given(str(path), str(path))
        return
    if suffix not in suffixes:
        yield Given(str(path), fault=f"a run on {_CALLED[inputs.kind]} reads {_some(suffixes)}")
        return
    try:
        if suffix in TEXT:
            yield from _lines(path)
        elif suffix in TABLE:
            yield from _rows(path, inputs, "tab" if suffix == ".tsv" else ",")
        else:
            yield from _array(path, inputs)
    except TrainingError as fault:  # the file is named in it already
        yield Given(str(path), fault=str(fault).removeprefix(f"{path}: "))
    except (OSError, ValueError, EOFError) as fault:
        yield Given(str(path), fault=f"cannot be read: {str(fault).splitlines()[0] if str(fault) else type(fault).__name__}")


_CALLED = {"image": "pictures", "text": "texts", "array": "numbers"}


def _lines(path: Path) -> Iterator[Given]:
    found = False
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        if line.strip():
            found = True
            yield Given(f"{path}:{number}", line)
    if not found:
        yield Given(str(path), fault="empty; a text is one line")


def _rows(path: Path, inputs: Inputs, delimiter: str) -> Iterator[Given]:
    table = read_table(str(path), delimiter)
    if inputs.kind == "text":
        name = (inputs.columns or ("text",))[0]
        for line, text in zip(table.lines, table.column(name), strict=True):
            yield Given(f"{path}:{line}", text)
        return
    numbers = table.numbers(list(inputs.columns or table.header))
    for line, row in zip(table.lines, numbers, strict=True):
        yield Given(f"{path}:{line}", row)


def _array(path: Path, inputs: Inputs) -> Iterator[Given]:
    """An array of one input's shape is one input; one with a dimension more, in front, is many."""
    import torch

    with open(path, "rb") as file:
        loaded = np.load(file, allow_pickle=False)
        if not isinstance(loaded, np.ndarray):
            name = "inputs" if "inputs" in loaded.files else (loaded.files or [""])[0]
            loaded = loaded[name]
    if loaded.dtype.kind not in "biuf":
        raise ValueError(f"its elements are {loaded.dtype}, and no numbers")
    tensor = torch.from_numpy(np.ascontiguousarray(loaded))
    tensor = tensor.float() if tensor.dtype == torch.float64 else tensor
    single = inputs.shape is not None and tensor.ndim == len(inputs.shape)
    if single:
        yield Given(str(path), tensor)
        return
    for number, row in enumerate(tensor):
        yield Given(f"{path}[{number}]", row)


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def _some(suffixes: Sequence[str]) -> str:
    usual = [suffix for suffix in (".jpg", ".png", ".webp", ".tif", *TEXT, *TABLE, *ARRAY) if suffix in suffixes]
    return ", ".join(usual or suffixes[:6])
