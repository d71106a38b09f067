"""Classification: one class a sample, or several."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from trainer.tasks.base import Sums, Task

TOP = 5


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

    def __init__(self, loss: Any) -> None:
        super().__init__(loss)
        self.soft = isinstance(loss, nn.CrossEntropyLoss)

    def quick(self, output: Any, targets: Any) -> torch.Tensor | None:
        """Samples (or the mean of their places) whose highest score is the target's."""
        if not has_classes(output, targets, self.soft):
            return None
        right: torch.Tensor = output.argmax(1) == _hard(targets)
        return right.sum() if right.ndim == 1 else right.double().mean(tuple(range(1, right.ndim))).sum()

    def measure(self, output: Any, targets: Any) -> Sums:
        """The confusion matrix (rows: the truth, columns: the prediction) and top-5 hits; targets below 0 do not count."""
        if not has_classes(output, targets, self.soft):
            return {}
        classes = output.shape[1]
        scores = output.movedim(1, -1).reshape(-1, classes)
        truth = _hard(targets).reshape(-1)
        counted = truth >= 0
        scores, truth = scores[counted], truth[counted]
        cells = torch.bincount(truth * classes + scores.argmax(1), minlength=classes * classes)
        sums = {"confusion": cells.view(classes, classes)}
        if classes > TOP:
            sums["top"] = (scores.topk(TOP, dim=1).indices == truth.unsqueeze(1)).any(1).sum()
        return sums

    def metrics(self, sums: Sums, samples: int) -> dict[str, float]:
        """Accuracy, top-5 accuracy and macro F1."""
        if "confusion" not in sums:
            return {}
        confusion = sums["confusion"].double()
        total = float(confusion.sum())
        if not total:
            return {}
        found = {"accuracy": float(confusion.diagonal().sum()) / total}
        if "top" in sums:
            found["top5_accuracy"] = float(sums["top"]) / total
        figures = per_class(sums["confusion"])
        scores = [row["f1"] for row in figures if row["samples"] or row["predicted"]]
        found["f1"] = sum(scores) / len(scores)
        return found

    def details(self, sums: Sums, samples: int) -> dict[str, Any]:
        """The confusion matrix and each class's precision, recall and F1."""
        if "confusion" not in sums:
            return {}
        return {"confusion": sums["confusion"].tolist(), "per_class": per_class(sums["confusion"])}

    def classes(self, output: Any, targets: Any) -> int | None:
        """The scores' width, where labels are class numbers."""
        return int(output.shape[1]) if has_classes(output, targets) and output.ndim == 2 else None


class MultiLabel(Task):
    """Several classes a sample: scores (n, classes) against 0 or 1 for each (n, classes); a score above 0 says yes.

    Metrics: accuracy of single labels, share of samples with all labels right (exact), F1 over all labels (micro) and over classes (macro).
    """

    quick_name = "accuracy"

    def quick(self, output: Any, targets: Any) -> torch.Tensor | None:
        """The sum over the samples of the share of labels that are right."""
        right: torch.Tensor = (output > 0) == (targets > 0.5)
        return right.double().mean(1).sum()

    def measure(self, output: Any, targets: Any) -> Sums:
        """Hits, false alarms and misses of each class, and samples with all labels right."""
        said, true = output > 0, targets > 0.5
        return {
            "right": (said == true).sum(),
            "exact": (said == true).all(1).sum(),
            "hits": (said & true).sum(0),
            "false_alarms": (said & ~true).sum(0),
            "misses": (~said & true).sum(0),
        }

    def metrics(self, sums: Sums, samples: int) -> dict[str, float]:
        """Accuracy, exact match, micro and macro F1."""
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


def per_class(confusion: torch.Tensor) -> list[dict[str, float]]:
    """Precision, recall and F1 of each class; 0 where a class does not occur (scikit-learn's ``zero_division=0``)."""
    found = []
    for number, row in enumerate(confusion.tolist()):
        hits, samples = row[number], sum(row)
        predicted = int(confusion[:, number].sum())
        found.append(
            {
                "samples": samples,
                "predicted": predicted,
                "precision": hits / predicted if predicted else 0.0,
                "recall": hits / samples if samples else 0.0,
                "f1": _f1(hits, predicted - hits, samples - hits),
            }
        )
    return found


def _f1(hits: float, false_alarms: float, misses: float) -> float:
    total = 2 * hits + false_alarms + misses
    return 2 * hits / total if total else 0.0


def _hard(targets: torch.Tensor) -> torch.Tensor:
    """Class numbers; of soft targets the largest share's."""
    return targets.argmax(1) if targets.is_floating_point() else targets
