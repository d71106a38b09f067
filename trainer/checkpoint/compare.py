"""Which tensor shows first that two runs part."""

from __future__ import annotations

from pathlib import Path

import torch

from trainer.checkpoint import store
from trainer.fingerprint import named_tensors


def first_tensor(one: Path, two: Path) -> str | None:
    """The first tensor that differs in the first checkpoint of both runs that differs; None: they have none in common that does.

    Args:
        one: a run's ``checkpoints`` folder.
        two: the other's.
    """
    both = sorted(set(store.names(one)) & set(store.names(two)), key=store.step_of)
    for name in both:
        if store.verify(one / name)["weights"] == store.verify(two / name)["weights"]:
            continue
        left, right = (dict(named_tensors(store.load(folder / name)["model"])) for folder in (one, two))
        for tensor in left:
            a, b = left[tensor], right.get(tensor)
            if b is None or a.shape != b.shape or not torch.equal(_bits(a), _bits(b)):
                return f"{tensor} in {name}"
    return None


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().view(-1).view(torch.uint8)
