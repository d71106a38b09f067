"""Whole numbers that an embedding has no row for, found before the first step: on a GPU they are an assertion without a line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from trainer.data.names import name_of
from trainer.data.vocabulary import bearer
from trainer.errors import TrainingError


@contextlib.contextmanager
def embeddings_checked(model: nn.Module, dataset: Any) -> Iterator[None]:
    """Within this context an embedding refuses a data set's inputs if it has fewer rows than these have numbers.

    Args:
        model: the bare module.
        dataset: one of whole numbers: it has a vocabulary, or a tensor ``inputs`` of int64.

    Raises:
        TrainingError: names the layer, its rows and the numbers.
    """
    numbers = _numbers(dataset)
    # No hook where nothing can be wrong: torch.compile would have to begin anew without it.
    short = {name: one for name, one in model.named_modules() if isinstance(one, nn.Embedding) and one.num_embeddings < numbers}
    seen: list[Any] = []

    def first(_: nn.Module, arguments: tuple[Any, ...]) -> None:
        seen[:] = arguments

    def look(layer: str, rows: int) -> Any:
        def hook(_: nn.Module, arguments: tuple[Any, ...]) -> None:
            if seen and arguments and arguments[0] is seen[0]:  # these are the inputs, and no positions in them
                raise TrainingError(
                    f"model: its layer {layer} has {rows} rows, and data set {name_of(dataset)} has {numbers} different inputs "
                    f"(0 … {numbers - 1}); give the model {numbers} or more"
                )

        return hook

    handles = [model.register_forward_pre_hook(first)] if short else []
    handles += [one.register_forward_pre_hook(look(name or "embedding", one.num_embeddings)) for name, one in short.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _numbers(dataset: Any) -> int:
    """One more than the highest whole number in the inputs; 0: not known."""
    found = bearer(dataset)
    if found is not None and hasattr(found, "text"):
        return len(found.vocabulary)
    while dataset is not None:
        inputs = getattr(dataset, "inputs", None)
        if isinstance(inputs, torch.Tensor) and inputs.dtype == torch.int64 and inputs.numel():
            return int(inputs.max()) + 1
        dataset = getattr(dataset, "dataset", None)
    return 0
