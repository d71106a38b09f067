"""Text as data: bags of words from a table of texts and labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.config.strict_yaml import one_line
from trainer.data.arrays import class_numbers
from trainer.data.order import Indices
from trainer.data.splits import split_indices
from trainer.data.table import read_table
from trainer.errors import TrainingError
from trainer.files import write_json

_SPLITS = ("train", "valid", "test")


class BagOfWords:
    """How often each word of a vocabulary stands in a text: float32 (words,), and the text's class.

    Words are scikit-learn's: ``CountVectorizer``'s, in lower case, of two letters or more. The vocabulary is that of the training part
    alone, whatever part is read. It is kept sparse, and made dense a micro-batch at a time.

    Args:
        path: a CSV file with a header line.
        text: the column of the texts.
        label: the column of the labels.
        split: which part; the parts share no text, each has its share of each class; ``all``: the whole file.
        valid_fraction: the share of the valid part.
        test_fraction: the share of the test part.
        seed: which texts go where; the job's seed plays no part in it.
        max_features: the most frequent words only.
        vocabulary: a vocabulary that `save` wrote (a run's ``vocabulary.json``), instead of one of this file; or another CSV file, all of
            whose texts it is made from. The validation and the test set of a job need none: they take the training set's.
        delimiter: what stands between two cells; ``tab`` for a tabulator.
    """

    def __init__(
        self,
        path: str,
        text: str = "text",
        label: str = "label",
        split: Literal["train", "valid", "test", "all"] = "train",
        valid_fraction: float = 0.1,
        test_fraction: float = 0.1,
        seed: int = 0,
        max_features: int | None = None,
        vocabulary: str | None = None,
        delimiter: str = ",",
    ) -> None:
        if split not in (*_SPLITS, "all"):
            raise TrainingError(f"bag_of_words: there is no split {one_line(str(split), 40)!r}; use train, valid, test or all")
        texts, labels = _texts(path, text, label, delimiter)
        self.path, self.label, self.max_features = path, label, max_features
        self.named = vocabulary is not None
        known: list[str] | None = None
        if vocabulary is None:
            targets, self.classes = class_numbers(labels)
        elif vocabulary.endswith(".json"):
            known, self.classes = saved_vocabulary(vocabulary)
            targets = _numbers(path, label, labels, self.classes)
        else:
            others, theirs = _texts(vocabulary, text, label, delimiter)
            known, self.classes = most_frequent(others, max_features, vocabulary), class_numbers(theirs)[1]
            targets = _numbers(path, label, labels, self.classes)
        parts = _parts(path, targets, valid_fraction, test_fraction, seed) if split != "all" else {}
        parts["all"] = np.arange(len(texts))
        if known is None:
            fitted_on = parts["all" if split == "all" else "train"]
            known = most_frequent([texts[i] for i in fitted_on], max_features, path)
        mine = parts[split]
        self._texts, self._labels = [texts[i] for i in mine], [labels[i] for i in mine]
        self._count(known)
        self.targets = torch.from_numpy(targets[mine])

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """One text and its class."""
        inputs, targets = self.get_batch(np.array([index]))
        return inputs[0], targets[0]

    def get_batch(self, indices: Indices) -> tuple[torch.Tensor, torch.Tensor]:
        """Many texts, float32 (m, words), and their classes, int64 (m,)."""
        return _dense(self._counts[indices]), self.targets[torch.from_numpy(indices)]

    def _count(self, vocabulary: list[str]) -> None:
        self.vocabulary = vocabulary
        self._counts = _vectorizer(vocabulary).transform(self._texts)

    def fit_on(self, indices: Indices) -> None:
        """Make the vocabulary of some of these texts alone: the rest is for validation. One that was named stays."""
        if not self.named:
            self._count(most_frequent([self._texts[i] for i in indices], self.max_features, self.path))

    def take_vocabulary(self, other: BagOfWords) -> None:
        """Count the words of another set's vocabulary, and number the classes as there.

        Raises:
            TrainingError: a label is none of its classes.
        """
        self.targets = torch.from_numpy(_numbers(self.path, self.label, self._labels, other.classes))
        self.classes = list(other.classes)
        self._count(list(other.vocabulary))

    def save(self, path: str | Path) -> None:
        """Write the vocabulary and the classes as JSON, for the argument ``vocabulary``."""
        write_json(Path(path), {"vocabulary": self.vocabulary, "classes": self.classes})


def word_counts(vocabulary: list[str], texts: list[str]) -> torch.Tensor:
    """How often each word stands in each text, float32 (texts, words)."""
    return _dense(_vectorizer(vocabulary).transform(texts))


def _dense(counts: Any) -> torch.Tensor:
    return torch.from_numpy(counts.toarray().astype(np.float32))


def most_frequent(texts: list[str], max_features: int | None, path: str) -> list[str]:
    """The words of some texts in alphabetical order, the most frequent ones only; of equally frequent ones the first.

    The choice is ours and not ``CountVectorizer(max_features=…)``'s, whose sorting leaves open which of equally frequent words stay.
    """
    vectorizer = _vectorizer(None)
    try:
        counts = np.asarray(vectorizer.fit_transform(texts).sum(axis=0)).reshape(-1)
    except ValueError as fault:
        raise TrainingError(f"{path}: bag_of_words: its texts hold no words: {one_line(str(fault), 100)}") from fault
    words = vectorizer.get_feature_names_out()
    if max_features is not None and max_features < len(words):
        words = words[np.sort(np.lexsort((np.arange(len(words)), -counts))[:max_features])]
    return [str(word) for word in words]


def _vectorizer(vocabulary: list[str] | None) -> Any:
    try:
        from sklearn.feature_extraction.text import CountVectorizer
    except ImportError as missing:
        raise TrainingError("bag_of_words: scikit-learn is not installed; pip install scikit-learn") from missing
    return CountVectorizer(vocabulary=vocabulary)


def _texts(path: str, text: str, label: str, delimiter: str) -> tuple[list[str], list[str]]:
    table = read_table(path, delimiter)
    return table.column(text), table.column(label)


def _numbers(path: str, label: str, labels: list[str], classes: list[str]) -> NDArray[np.int64]:
    try:
        return class_numbers(labels, classes)[0]
    except KeyError as unknown:
        name = one_line(unknown.args[0], 40)
        raise TrainingError(f"{path}: column '{label}': '{name}' is none of the classes that belong to the vocabulary") from unknown


def saved_vocabulary(path: str) -> tuple[list[str], list[str]]:
    """The vocabulary and the classes that a run has saved."""
    try:
        saved = json.loads(Path(path).read_text(encoding="utf-8"))
        words, classes = ([str(item) for item in saved[name]] for name in ("vocabulary", "classes"))
    except OSError as error:
        raise TrainingError(f"{path}: cannot be read: {error.strerror}; name a vocabulary that a run has saved") from error
    except (ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{path}: no vocabulary that a run has saved; leave the argument out to make one") from error
    return words, classes


def _parts(path: str, targets: NDArray[np.int64], valid_fraction: float, test_fraction: float, seed: int) -> dict[str, Indices]:
    """Sample numbers of the three parts; the test part is the same whatever the valid part's share."""
    rest = np.arange(len(targets))
    parts: dict[str, Indices] = {}
    share = 1.0
    for name, fraction in (("test", test_fraction), ("valid", valid_fraction)):
        if not 0 <= fraction < share:
            raise TrainingError(
                f"{path}: bag_of_words: {name}_fraction {fraction:g} leaves no training part; the shares' sum must be below 1"
            )
        parts[name] = np.empty(0, dtype=np.int64)
        if fraction:
            try:
                outside, inside = split_indices(targets[rest], fraction / share, seed)
            except ValueError as fault:
                raise TrainingError(f"{path}: bag_of_words: {name}_fraction: {fault}") from fault
            parts[name], rest = rest[inside], rest[outside]
        share -= fraction
    return parts | {"train": rest}
