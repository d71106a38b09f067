"""Labels that a classifier cannot have, found before the first step: on a GPU they are an assertion without a line, after hours."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.data.names import name_of, said
from trainer.errors import TrainingError


def check_labels(dataset: Any, classes: int, ignore_index: int = -100) -> None:
    """Refuse labels outside 0 … classes-1, where the data set has its labels at hand.

    Args:
        dataset: map-style; looked through: transforms, `Subset` and `ConcatDataset`.
        classes: the width of the model's output.
        ignore_index: a label that the loss leaves out.

    Raises:
        TrainingError: names the first sample whose label is none.
    """
    labels = labels_of(dataset)
    if labels is None or len(labels) != len(dataset):
        return
    wrong = np.flatnonzero(~(((labels >= 0) & (labels < classes) & (labels == np.floor(labels))) | (labels == ignore_index)))
    if not len(wrong):
        return
    index = int(wrong[0])
    found = _as_read(dataset, index)
    if found is None or found == ignore_index or (0 <= found < classes and found == int(found)):
        return  # the data set changes its labels on the way
    more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
    what = f"data set {name_of(dataset)}: {said(dataset, index)} has label {found:g}{more}"
    raise TrainingError(f"{what}; the model has {classes} classes (0 … {classes - 1})")


def labels_of(dataset: Any) -> NDArray[Any] | None:
    """All labels, shape (n,); None: the data set does not have them at hand, or not as numbers."""
    parts = getattr(dataset, "datasets", None)
    if isinstance(parts, (list, tuple)):
        known = [found for part in parts if (found := labels_of(part)) is not None]
        return np.concatenate(known) if known and len(known) == len(parts) else None
    inner = getattr(dataset, "dataset", None)
    if inner is not None:
        labels = labels_of(inner)
        indices = getattr(dataset, "indices", None)
        return labels if labels is None or indices is None else labels[np.asarray(indices, dtype=np.int64)]
    return next((found for name in ("targets", "labels") if (found := _numbers(getattr(dataset, name, None))) is not None), None)


def _numbers(value: Any) -> NDArray[Any] | None:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    elif isinstance(value, (list, tuple)) and value and all(isinstance(item, (int, float, np.number)) for item in value):
        value = np.asarray(value)
    return value if isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind in "iuf" else None


def _as_read(dataset: Any, index: int) -> float | None:
    """A sample's label as the trainer reads it; None: it cannot be read, which is the reader's to tell, or is no number."""
    try:
        if hasattr(dataset, "get_batch"):
            return float(dataset.get_batch(np.array([index]))[1][0])
        return float(dataset[index][1])
    except Exception:
        return None
