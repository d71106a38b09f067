"""Text as data for a language model: windows of characters, each with a number."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch

from trainer.config.strict_yaml import one_line
from trainer.data.order import Indices
from trainer.data.text import saved_vocabulary
from trainer.errors import TrainingError
from trainer.files import write_json

Split = Literal["train", "valid", "test"]
_SPLITS = ("train", "valid", "test")


class CharText:
    """Windows of a text: int64 (length,), and the same one character later: what a language model predicts.

    The text is cut in three: the training part first, then valid, then test, so that no window is in two of them. All of its characters
    are numbered, in sorted order; another text of the same job takes the training set's numbers.

    Args:
        path: a text file in UTF-8.
        length: characters in a window.
        split: which part.
        valid_fraction: the share of the valid part.
        test_fraction: the share of the test part.
        stride: characters between the starts of two windows; ``length`` when left out, so that each character is predicted once.
        vocabulary: characters that `save` wrote (a run's ``vocabulary.json``), instead of this text's; or another text, that has them
            all. The validation and the test set of a job need none.
    """

    def __init__(
        self,
        path: str,
        length: int = 64,
        split: Split = "train",
        valid_fraction: float = 0.1,
        test_fraction: float = 0.0,
        stride: int | None = None,
        vocabulary: str | None = None,
    ) -> None:
        stride = length if stride is None else stride
        if split not in _SPLITS:
            raise TrainingError(f"char_text: there is no split {one_line(str(split), 40)!r}; use train, valid or test")
        if length < 1 or stride < 1:
            raise TrainingError(f"char_text: length {length} and stride {stride} must be at least 1")
        if min(valid_fraction, test_fraction) < 0 or valid_fraction + test_fraction >= 1:
            raise TrainingError(
                f"char_text: fractions {valid_fraction} and {test_fraction} leave no training part; their sum must be below 1"
            )
        text = _text(path)
        self.path, self.length, self.named = path, length, vocabulary is not None
        last, middle = round(len(text) * (1 - test_fraction)), round(len(text) * (1 - test_fraction - valid_fraction))
        start, stop = {"train": (0, middle), "valid": (middle, last), "test": (last, len(text))}[split]
        self._part = text[start:stop]
        self._number(sorted(set(text)) if vocabulary is None else _characters(vocabulary))
        self._starts = torch.arange(0, max(0, len(self.text) - length), stride)
        if not len(self._starts):
            raise TrainingError(f"{path}: char_text: its {split} part has {len(self.text)} characters, and a window needs {length + 1}")

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """One window, and what follows each of its characters."""
        start = int(self._starts[index])
        return self.text[start : start + self.length], self.text[start + 1 : start + self.length + 1]

    def get_batch(self, indices: Indices) -> tuple[torch.Tensor, torch.Tensor]:
        """Many windows, and what follows their characters, shapes (m, length)."""
        places = self._starts[torch.from_numpy(indices)].unsqueeze(1) + torch.arange(self.length)
        return self.text[places], self.text[places + 1]

    def _number(self, vocabulary: list[str]) -> None:
        number_of = {character: number for number, character in enumerate(vocabulary)}
        unknown = sorted(set(self._part) - set(number_of))
        if unknown:
            more = f" and {len(unknown) - 1} more are" if len(unknown) > 1 else " is"
            raise TrainingError(
                f"{self.path}: char_text: {unknown[0]!r}{more} not among the {len(vocabulary)} characters of the vocabulary; "
                "name a text that has them all as vocabulary, for the training set as well"
            )
        self.vocabulary = self.classes = vocabulary
        self.text = torch.tensor([number_of[character] for character in self._part], dtype=torch.int64)

    def take_vocabulary(self, other: CharText) -> None:
        """Number the characters as another set does.

        Raises:
            TrainingError: a character is none of its.
        """
        self._number(list(other.vocabulary))

    def save(self, path: str | Path) -> None:
        """Write the characters as JSON, for the argument ``vocabulary``."""
        write_json(Path(path), {"vocabulary": self.vocabulary, "classes": self.classes})

    def decode(self, numbers: Any) -> str:
        """The text that some class numbers mean."""
        return "".join(self.classes[int(number)] for number in numbers)


def _characters(path: str) -> list[str]:
    """The characters of a vocabulary: a saved one's, or a text's."""
    if not path.endswith(".json"):
        return sorted(set(_text(path)))
    characters = saved_vocabulary(path)[0]
    if not all(len(character) == 1 for character in characters) or len(set(characters)) < len(characters):
        raise TrainingError(f"{path}: char_text: a vocabulary of words, not of characters; name one that a run of char_text has saved")
    return characters


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise TrainingError(f"{path}: cannot be read: {error.strerror}; name a text file") from error
    except UnicodeDecodeError as error:
        raise TrainingError(f"{path}: not UTF-8 text at byte {error.start}; save the file as UTF-8") from error
