"""Data sets from files of numbers, held in memory and read a whole micro-batch at a time: CSV, NumPy, safetensors."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.config.explain import did_you_mean
from trainer.config.strict_yaml import one_line
from trainer.data.datasets import ArrayDataset
from trainer.data.table import Table, read_table
from trainer.errors import TrainingError

__all__ = ["Arrays", "class_numbers", "csv_table", "numpy_arrays", "safetensors_arrays"]


_MOST_CLASSES = 100_000  # more are no classes


class Arrays(ArrayDataset):
    """Inputs and targets in two tensors, and what they are called where that is known: ``classes``, ``columns``.

    Args:
        inputs: shape (n, …).
        targets: shape (n, …).
        classes: the classes' names.
        columns: the inputs' names.
    """

    def __init__(
        self, inputs: torch.Tensor, targets: torch.Tensor, classes: list[str] | None = None, columns: list[str] | None = None
    ) -> None:
        super().__init__(inputs, targets)
        if classes is not None:
            self.classes = classes
        if columns is not None:
            self.columns = columns


def csv_table(
    path: str,
    predict: str | None = None,
    inputs: Sequence[str] | None = None,
    task: Literal["classification", "regression"] = "classification",
    delimiter: str = ",",
    classes: Sequence[str] | None = None,
) -> Arrays:
    """A table of numbers with a header line; inputs are float32 (columns,).

    Args:
        path: the CSV file.
        predict: the column of the targets; the last one when left out.
        inputs: the columns to predict it from, in this order; all others when left out.
        task: classification: targets are int64 class numbers (see `class_numbers`); regression: float32 (1,).
        delimiter: what stands between two cells; ``tab`` for a tabulator.
        classes: the names of all classes in the order of their numbers, where a file may lack some: the same for each split.

    Raises:
        TrainingError: the file cannot be read, or a cell is not what it must be: line and column are named.
    """
    if task not in ("classification", "regression"):
        raise TrainingError(f"csv_table: there is no task '{one_line(str(task), 40)}'; use classification or regression")
    table = read_table(path, delimiter)
    target = table.header[-1] if predict is None else predict
    table.position(target)
    chosen = [name for name in table.header if name != target] if inputs is None else list(inputs)
    if not chosen:
        raise TrainingError(f"{path}:1: there is no column besides the target '{one_line(target, 40)}'; a table needs inputs")
    if target in chosen:
        raise TrainingError(f"{path}:1: column '{one_line(target, 40)}' is the target, and among the inputs; name it once")
    values = torch.from_numpy(table.numbers(chosen))
    if task == "regression":
        return Arrays(values, torch.from_numpy(table.numbers([target])), columns=chosen)
    numbers, names = _classes_of(table, target, classes)
    return Arrays(values, torch.from_numpy(numbers), names, chosen)


def class_numbers(labels: Sequence[str], classes: Sequence[str] | None = None) -> tuple[NDArray[np.int64], list[str]]:
    """The class number of each label, and the classes' names.

    Whole numbers from 0 on are class numbers as they are; any other labels are names and are numbered in sorted order.

    Args:
        labels: one for each sample.
        classes: the names in the order of their numbers, where it is known.

    Raises:
        KeyError: a label is not among the classes; its argument is the label.
    """
    texts = [label.strip() for label in labels]
    found = set(texts)
    if classes is not None:
        names = [str(name) for name in classes]
    elif all(text.isascii() and text.isdigit() and len(text) < 10 for text in found):
        return np.array([int(text) for text in texts], dtype=np.int64), [str(number) for number in range(max(map(int, found)) + 1)]
    else:
        names = sorted(found)
    number_of = {name: number for number, name in enumerate(names)}
    return np.array([number_of[text] for text in texts], dtype=np.int64), names


def _classes_of(table: Table, target: str, classes: Sequence[str] | None) -> tuple[NDArray[np.int64], list[str]]:
    cells = table.column(target)
    for line, cell in zip(table.lines, cells, strict=True):
        if not cell.strip():
            raise TrainingError(f"{table.path}:{line}: column '{one_line(target, 40)}': the cell is empty, where a class is expected")
    try:
        numbers, names = class_numbers(cells, classes)
    except KeyError as unknown:
        name = unknown.args[0]
        line = next(line for line, cell in zip(table.lines, cells, strict=True) if cell.strip() == name)
        what = f"'{one_line(name, 40)}' is not one of the classes {', '.join(map(str, classes or []))[:120]}"
        raise TrainingError(f"{table.path}:{line}: column '{one_line(target, 40)}': {what}") from unknown
    if len(names) > max(1000, len(cells) // 2):
        what = f"{len(names)} classes in {len(cells)} rows"
        raise TrainingError(f"{table.path}: column '{one_line(target, 40)}': {what}; is it a number to predict (task: regression)?")
    return numbers, names


def numpy_arrays(
    inputs: str,
    targets: str | None = None,
    inputs_key: str = "inputs",
    targets_key: str = "targets",
    classes: Sequence[str] | None = None,
    task: Literal["auto", "classification", "regression"] = "auto",
) -> Arrays:
    """Arrays of ``.npy`` or ``.npz`` files.

    Inputs become float32: uint8 (pictures) is divided by 255; other whole numbers stay what they are, as int64 (a text's characters).
    Targets become int64 where they are whole numbers, float32 otherwise, of shape (n, 1) where they were (n,); text names classes.

    Args:
        inputs: the file of the inputs, shape (n, …).
        targets: the file of the targets, shape (n, …); the same ``.npz`` when left out.
        inputs_key: the name of the inputs in an ``.npz``.
        targets_key: the name of the targets in an ``.npz``.
        classes: the classes' names.
        task: classification: one target a sample is a class number, which must be whole; regression: targets are float32, whole numbers
            such as ages as well; auto: as said above, by their type.
    """
    if targets is None and not str(inputs).endswith(".npz"):
        raise TrainingError(f"numpy_arrays: {inputs} holds one array; name the file of the targets as well (targets: …)")
    values = _numpy_array(inputs, inputs_key)
    answers = _numpy_array(inputs if targets is None else targets, targets_key)
    names = list(map(str, classes)) if classes is not None else None
    if answers.dtype.kind in "US" and answers.ndim == 1 and task != "regression":
        try:
            answers, names = class_numbers([str(label) for label in answers.astype(str)], classes)
        except KeyError as unknown:
            raise TrainingError(f"numpy_arrays: label '{one_line(unknown.args[0], 40)}' is not one of the classes") from unknown
    place = inputs if targets is None else f"{inputs} and {targets}"
    return _dataset(_tensor(values, inputs), _for_task(_tensor(answers, targets or inputs), task, "numpy_arrays", place), names, place)


def _numpy_array(path: str, key: str) -> NDArray[Any]:
    try:
        with open(path, "rb") as file:  # opened here: of a torn file np.load would leave it open
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return loaded
            with loaded:
                if key not in loaded.files:
                    instead = did_you_mean(key, loaded.files) or f"; it has {', '.join(loaded.files[:8]) or 'none'}"
                    raise TrainingError(f"{path}: there is no array '{one_line(key, 40)}'{instead}")
                found: NDArray[Any] = loaded[key]
                return found
    except OSError as error:
        raise TrainingError(f"{path}: cannot be read: {error.strerror or error}; name a .npy or .npz file") from error
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        why = "it holds Python objects" if "allow_pickle" in str(error) else one_line(str(error), 120)
        raise TrainingError(f"{path}: no usable NumPy file: {why}; write plain numbers with numpy.save or numpy.savez") from error


def safetensors_arrays(
    path: str,
    inputs: str = "inputs",
    targets: str = "targets",
    classes: Sequence[str] | None = None,
    task: Literal["auto", "classification", "regression"] = "auto",
) -> Arrays:
    """Two tensors of a ``.safetensors`` file, converted as in `numpy_arrays`.

    Args:
        path: the file.
        inputs: the name of the inputs, shape (n, …).
        targets: the name of the targets, shape (n, …).
        classes: the classes' names.
        task: what the targets are, as in `numpy_arrays`.
    """
    from safetensors import SafetensorError, safe_open

    found = []
    try:
        with safe_open(path, framework="pt") as file:
            for name in (inputs, targets):
                if name not in file.keys():  # noqa: SIM118 - it is no dict
                    instead = did_you_mean(name, list(file.keys())) or f"; it has {', '.join(list(file.keys())[:8])}"
                    raise TrainingError(f"{path}: there is no tensor '{one_line(name, 40)}'{instead}")
                found.append(file.get_tensor(name))
    except (OSError, SafetensorError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else one_line(str(error), 120)
        raise TrainingError(f"{path}: no usable safetensors file: {why}") from error
    values, answers = (_converted(tensor) for tensor in found)
    return _dataset(
        values, _for_task(answers, task, "safetensors_arrays", path), None if classes is None else list(map(str, classes)), path
    )


def _for_task(targets: torch.Tensor, task: str, name: str, place: str) -> torch.Tensor:
    """Targets as a task takes them."""
    if task not in ("auto", "classification", "regression"):
        raise TrainingError(f"{name}: there is no task '{one_line(str(task), 40)}'; use classification, regression or auto")
    if task == "regression":
        return targets.float()
    if task == "auto" or not targets.is_floating_point() or targets.ndim != 1:  # (n, classes): a share for each class
        return targets
    broken = (targets != targets.round()).nonzero()
    if len(broken):
        first = int(broken[0])
        raise TrainingError(
            f"{place}: the target of sample {first} is {float(targets[first]):g}, and no class number; is it task: regression?"
        )
    return targets.long()


def _tensor(array: NDArray[Any], path: str) -> torch.Tensor:
    kind = array.dtype.kind
    if kind not in "biuf":
        raise TrainingError(f"{path}: its elements are {array.dtype}; write plain numbers")
    if kind == "u" and array.dtype.itemsize > 1:
        array = array.astype(np.int64)
    elif kind == "f":
        array = array.astype(np.float32)
    return _converted(torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C")))


def _converted(value: torch.Tensor) -> torch.Tensor:
    """Floats as float32, bytes still as bytes, other whole numbers as int64."""
    if value.is_floating_point() or value.dtype == torch.bool:
        return value.float()
    return value if value.dtype == torch.uint8 else value.long()


def _dataset(inputs: torch.Tensor, targets: torch.Tensor, classes: list[str] | None, place: str) -> Arrays:
    for name, value in {"inputs": inputs, "targets": targets}.items():
        if value.ndim == 0:
            raise TrainingError(f"{place}: the {name} are one number; a data set needs shape (n, …)")
        finite = torch.isfinite(value).reshape(len(value), -1).all(1)
        if not finite.all():
            first = int((~finite).nonzero()[0])
            raise TrainingError(f"{place}: the {name} of sample {first} are not all finite numbers of 32 bits; mend or remove it")
    if len(inputs) != len(targets):
        raise TrainingError(f"{place}: {len(inputs)} inputs and {len(targets)} targets; a data set needs as many of both")
    inputs = inputs.float() / 255 if inputs.dtype == torch.uint8 else inputs
    if not targets.is_floating_point():
        targets = targets.long()
    elif targets.ndim == 1:
        targets = targets.unsqueeze(1)  # as a model's output has it
    if classes is None and targets.dtype == torch.int64 and targets.ndim == 1 and len(targets) and int(targets.min()) >= 0:
        highest = int(targets.max())
        classes = [str(number) for number in range(highest + 1)] if highest < _MOST_CLASSES else None
    return Arrays(inputs, targets, classes)
