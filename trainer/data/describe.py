"""What a run's data are, in a few hashes: so that two runs can be told apart by a label or by their order."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch

from trainer.data.order import BatchPlan

MAX_BYTES = 1 << 30


def describe(dataset: Any, plan: BatchPlan) -> dict[str, Any]:
    """Samples, the first epoch's first updates, and SHA-256 of the inputs and targets where the set holds them in memory."""
    found: dict[str, Any] = {"samples": len(dataset)}
    order = hashlib.sha256()
    for step in range(min(plan.steps_per_epoch, 16)):
        order.update(plan.batch(0, step).tobytes())
    found["order"] = order.hexdigest()
    inner = getattr(dataset, "dataset", dataset)
    for name, attributes in {"inputs": ("inputs", "data"), "targets": ("targets", "labels")}.items():
        value = next((getattr(inner, a) for a in attributes if hasattr(inner, a)), None)
        digest = _digest(value)
        if digest is not None:
            found[name] = digest
    return found


def _digest(value: Any) -> str | None:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()
    elif isinstance(value, list) and value and all(isinstance(item, int) for item in value):
        value = np.asarray(value)
    if not isinstance(value, np.ndarray) or value.dtype == object or value.nbytes > MAX_BYTES:
        return None
    return hashlib.sha256(np.ascontiguousarray(value).data).hexdigest()
