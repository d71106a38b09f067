"""Classification: one class a sample, or several."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from trainer.tasks.base import Quick, Sums, Task
from trainer.tasks.shapes import fitted

TOP = 5
MATRIX = 1000
"""With more classes no confusion matrix is kept, whose size is their square: hits, samples and predictions of each class are."""


def has_classes(output: object, targets: object, soft: bool = False) -> bool:
    """Whether accuracy means something.

    Args:
        output: scores of shape (n, classes, …).
        targets: class numbers (n, …).
        soft: a share for each class (n, classes) will do as well.
    """
    if not isinstance(output, torch.Tensor) or not isinstance(targets, torch.Tensor) or output.ndim < 2:
        return False
    hard = targets.dtype == torch.int64 and targets.shape == (output.shape[0], *output.shape[2:])
    return hard or (soft and targets.is_floating_point() and targets.shape == output.shape and output.ndim == 2)


class Classification(Task):
    """One class a sample: scores of shape (n, classes) against class numbers (n,), or soft targets (n, classes).

    Metrics: accuracy, top-5 accuracy where there are more than five classes, and F1 averaged over the classes that occur (macro, as in
    scikit-learn). With scores of shape (n, classes, length), such as a language model's, each place counts by itself.
    """

    quick_name = "accuracy"
    higher_is_better = ("accuracy", "top5_accuracy", "f1")

    def __init__(self, loss: Any) -> None:
        super().__init__(loss)
        self.soft = isinstance(loss, nn.CrossEntropyLoss)
        self.ignored: int = getattr(loss, "ignore_index", -100)

    def quick(self, output: Any, targets: Any) -> Quick | None:
        """Places whose highest score is the target's, and how many places count."""
        if not has_classes(output, targets, self.soft):
            return None
        right: torch.Tensor = output.argmax(1) == _hard(targets)
        if targets.is_floating_point():
            return right.sum()
        counted = targets != self.ignored
        return (right & counted if self.ignored >= 0 else right).sum(), counted.sum()  # no score's number is below 0

    def measure(self, output: Any, targets: Any) -> Sums:
        """The confusion matrix (rows: the truth, columns: the prediction; see `MATRIX`) and top-5 hits, without what the loss ignores."""
        if not has_classes(output, targets, self.soft):
            return {}
        classes = output.shape[1]
        scores = output.movedim(1, -1).reshape(-1, classes)
        truth = _hard(targets).reshape(-1)
        counted = truth >= 0
        if self.ignored >= 0 and not targets.is_floating_point():
            counted &= truth != self.ignored
        truth = torch.where(counted, truth, 0)  # and counted 0 times: to leave them out would wait for the device
        said = scores.argmax(1)
        if classes <= MATRIX:
            sums = {"confusion": _counts(truth * classes + said, counted, classes * classes).view(classes, classes)}
        else:
            numbers = {"hits": counted & (said == truth), "samples": counted}
            sums = {name: _counts(truth, number, classes) for name, number in numbers.items()}
            sums["predicted"] = _counts(said, counted, classes)
        if classes > TOP:
            sums["top"] = ((scores.topk(TOP, dim=1).indices == truth.unsqueeze(1)).any(1) & counted).sum()
        return sums

    def metrics(self, sums: Sums, samples: int) -> dict[str, float]:
        """Accuracy, top-5 accuracy and macro F1."""
        if not sums:
            return {}
        hits, count, predicted = _by_class(sums)
        total = int(count.sum())
        if not total:
            return dict.fromkeys(("accuracy", *(["top5_accuracy"] if "top" in sums else []), "f1"), math.nan)
        found = {"accuracy": int(hits.sum()) / total}
        if "top" in sums:
            found["top5_accuracy"] = int(sums["top"]) / total
        scores = per_class(hits, count, predicted)["f1"][(count > 0) | (predicted > 0)].tolist()
        found["f1"] = math.fsum(scores) / len(scores)
        return found

    def details(self, sums: Sums, samples: int) -> dict[str, Any]:
        """The confusion matrix (of not too many classes) and each class's precision, recall and F1."""
        if not sums:
            return {}
        columns = {name: column.tolist() for name, column in per_class(*_by_class(sums)).items()}
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        return {**({"confusion": sums["confusion"].tolist()} if "confusion" in sums else {}), "per_class": rows}

    def classes(self, output: Any, targets: Any) -> int | None:
        """The scores' width, where labels are class numbers."""
        return int(output.shape[1]) if has_classes(output, targets) and output.ndim == 2 else None


class MultiLabel(Task):
    """Several classes a sample: scores (n, classes) against 0 or 1 for each (n, classes); a score above 0 says yes.

    One yes or no a sample may be (n,) or (n, 1), and targets may be whole numbers.

    Metrics: accuracy of single labels, share of samples with all labels right (exact), F1 over all labels (micro) and over classes (macro).
    """

    quick_name = "accuracy"
    higher_is_better = ("accuracy", "exact_match", "f1", "f1_micro")

    def run(self, model: Any, inputs: Any, targets: Any) -> tuple[Any, torch.Tensor]:
        """One forward pass: the output, and the mean loss; the targets are in the output's shape, and of its kind."""
        output = model(inputs)
        return output, self.loss(output, fitted(output, targets))

    def quick(self, output: Any, targets: Any) -> torch.Tensor | None:
        """The sum over the samples of the share of labels that are right."""
        said, true = _answers(output, targets)
        return (said == true).double().mean(1).sum()

    def measure(self, output: Any, targets: Any) -> Sums:
        """Hits, false alarms and misses of each class, and samples with all labels right."""
        said, true = _answers(output, targets)
        return {
            "right": (said == true).sum(),
            "exact": (said == true).all(1).sum(),
            "hits": (said & true).sum(0),
            "false_alarms": (said & ~true).sum(0),
            "misses": (~said & true).sum(0),
        }

    def metrics(self, sums: Sums, samples: int) -> dict[str, float]:
        """Accuracy, exact match, micro and macro F1."""
        if not sums:
            return {}
        hits, false_alarms, misses = (sums[name].double() for name in ("hits", "false_alarms", "misses"))
        total = float(hits.sum() * 2 + false_alarms.sum() + misses.sum())
        each = [_f1(float(h), float(f), float(m)) for h, f, m in zip(hits, false_alarms, misses, strict=True)]
        return {
            "accuracy": float(sums["right"]) / (samples * len(each)),
            "exact_match": float(sums["exact"]) / samples,
            "f1_micro": float(hits.sum()) * 2 / total if total else 0.0,
            "f1": sum(each) / len(each),
        }

    def details(self, sums: Sums, samples: int) -> dict[str, Any]:
        """Hits, false alarms and misses of each class."""
        return {name: sums[name].tolist() for name in ("hits", "false_alarms", "misses")}


def per_class(hits: torch.Tensor, samples: torch.Tensor, predicted: torch.Tensor) -> dict[str, torch.Tensor]:
    """Precision, recall and F1 of each class; 0 where a class does not occur (scikit-learn's ``zero_division=0``)."""
    found = {"samples": samples, "predicted": predicted}
    parts = {"precision": (hits, predicted), "recall": (hits, samples), "f1": (2 * hits, samples + predicted)}
    return found | {name: part.double() / whole.clamp(min=1).double() for name, (part, whole) in parts.items()}


def _by_class(sums: Sums) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Hits, samples and predictions of each class."""
    if "confusion" in sums:
        return sums["confusion"].diagonal(), sums["confusion"].sum(1), sums["confusion"].sum(0)
    return sums["hits"], sums["samples"], sums["predicted"]


def _counts(numbers: torch.Tensor, counted: torch.Tensor, size: int) -> torch.Tensor:
    """How often each number occurs where it counts; unlike ``bincount`` it does not wait for the device to learn its own size."""
    return torch.zeros(size, dtype=torch.int64, device=numbers.device).index_add_(0, numbers, counted.long())


def _answers(output: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What is said, and what is true, shape (n, labels)."""
    said, true = output > 0, fitted(output, targets) > 0.5
    return said.reshape(len(said), -1), true.reshape(len(said), -1)


def _f1(hits: float, false_alarms: float, misses: float) -> float:
    total = 2 * hits + false_alarms + misses
    return 2 * hits / total if total else 0.0


def _hard(targets: torch.Tensor) -> torch.Tensor:
    """Class numbers; of soft targets the largest share's."""
    return targets.argmax(1) if targets.is_floating_point() else targets
