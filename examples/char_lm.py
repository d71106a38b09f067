"""A language model of characters: configs/char_lm.yaml names these two classes.

What comes next after each character of a window is one class number, so a window of n characters has n targets.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from trainer.tasks.base import Sums, Task


class CharGRU(nn.Module):
    """Characters in, scores for the next character out; no character sees what follows it.

    Args:
        characters: at least as many as the text has different ones.
        width: numbers in an embedding and in a hidden state.
        layers: GRU layers.
        dropout: probability of dropping a hidden number, between the layers and before the scores.
    """

    def __init__(self, characters: int, width: int = 128, layers: int = 2, dropout: float = 0.1) -> None:
        super().__init__()
        self.embedding = nn.Embedding(characters, width)
        self.gru = nn.GRU(width, width, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)
        self.drop = nn.Dropout(dropout)
        self.scores = nn.Linear(width, characters)

    def forward(self, x: Tensor) -> Tensor:
        """Scores (n, length, characters) of class numbers (n, length)."""
        hidden, _ = self.gru(self.embedding(x))
        scores: Tensor = self.scores(self.drop(hidden))
        return scores


class NextCharacter(Task):
    """Cross-entropy of each next character; measured in bits, as texts are, and by how often the first guess is right."""

    quick_name = "accuracy"
    lower_is_better = ("loss", "bits_per_character")

    def run(self, model: Any, inputs: Any, targets: Any) -> tuple[Any, Tensor]:
        """The scores, and the loss: the mean over all characters of all windows, which are equally long."""
        scores = model(inputs)
        return scores, self.loss(scores.flatten(0, 1), targets.flatten())

    def quick(self, output: Any, targets: Any) -> Tensor | None:
        """The share of right guesses in each window, added up."""
        return (output.argmax(2) == targets).double().mean(1).sum()

    def measure(self, output: Any, targets: Any) -> Sums:
        """Bits and right guesses, summed: whatever the batches, the totals are the same."""
        nats = nn.functional.cross_entropy(output.flatten(0, 1), targets.flatten(), reduction="none").double()
        right = (output.argmax(2) == targets).sum()
        return {"bits": nats.sum() / math.log(2), "right": right, "characters": torch.tensor(targets.numel())}

    def metrics(self, sums: Sums, samples: int) -> dict[str, float]:
        """From the sums over the whole set."""
        characters = float(sums["characters"])
        return {"accuracy": float(sums["right"]) / characters, "bits_per_character": float(sums["bits"]) / characters}
