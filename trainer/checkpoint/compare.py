"""Whether two runs have come to the same state, and which tensor shows first that they have not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from trainer import fingerprint
from trainer.checkpoint import store
from trainer.errors import CheckpointError
from trainer.fingerprint import named_tensors

COMPARED = ("model", "optimizer", "ema")


def state_digest(checkpoints: Path) -> str:
    """SHA-256 of the weights, the optimizer's state and the averaged weights in a run's last checkpoint.

    Args:
        checkpoints: the run's ``checkpoints`` folder.

    Raises:
        CheckpointError: there is no last checkpoint, or it cannot be used.
    """
    name = store.pointed(checkpoints, "last")
    if name is None:
        raise CheckpointError(f"{checkpoints}: last.json names no checkpoint; the run has saved none")
    state = store.load(checkpoints / name)
    return fingerprint.sha256({part: state[part] for part in COMPARED})


def first_tensor(one: Path, two: Path) -> str | None:
    """The first tensor that differs in the first checkpoint of both runs that differs; None: they have none in common that does.

    Args:
        one: a run's ``checkpoints`` folder.
        two: the other's.
    """
    both = sorted(set(store.names(one)) & set(store.names(two)), key=store.step_of)
    for name in both:
        left, right = (_compared(store.load(folder / name)) for folder in (one, two))
        for tensor in left:
            a, b = left[tensor], right.get(tensor)
            if b is None or a.shape != b.shape or not torch.equal(_bits(a), _bits(b)):
                return f"{tensor} in {name}"
    return None


def _compared(state: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The weights by their own names, then the others with where they belong in front."""
    return {
        **dict(named_tensors(state["model"])),
        **dict(named_tensors(state["optimizer"], "optimizer")),
        **dict(named_tensors(state["ema"], "ema")),
    }


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().view(-1).view(torch.uint8)
