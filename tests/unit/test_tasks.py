"""The metrics are scikit-learn's, and add up over batches however a set is split."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torch import Tensor, nn

from trainer.config.schema import Target
from trainer.tasks.base import Sums, Task
from trainer.tasks.choose import auto
from trainer.tasks.classification import Classification, MultiLabel
from trainer.tasks.regression import Regression

SPLITS = ([97], [1] * 97, [50, 47], [3, 90, 4])


def added(task: Task, output: Tensor, targets: Tensor, sizes: list[int]) -> Sums:
    """What the batches of these sizes add up to."""
    total: Sums = {}
    for scores, true in zip(output.split(sizes), targets.split(sizes), strict=True):
        for name, value in task.measure(scores, true).items():
            assert value.dtype in (torch.int64, torch.float64), f"{name} would not add up exactly"
            total[name] = total[name] + value if name in total else value
    return total


def measured(task: Task, output: Tensor, targets: Tensor, sizes: list[int]) -> dict[str, float]:
    return task.metrics(added(task, output, targets, sizes), len(targets))


def scores_and_classes(classes: int, n: int = 97, lacking: int | None = None) -> tuple[Tensor, Tensor]:
    """Scores that are often right, and class numbers; one class can be lacking."""
    generator = torch.Generator().manual_seed(classes)
    targets = torch.randint(classes, (n,), generator=generator)
    if lacking is not None:
        targets[targets == lacking] = (lacking + 1) % classes
    return torch.randn(n, classes, generator=generator) + 1.5 * nn.functional.one_hot(targets, classes), targets


@pytest.mark.parametrize("sizes", SPLITS, ids=len)
@pytest.mark.parametrize("lacking", [None, 2])
@pytest.mark.parametrize("classes", [3, 8])
def test_classification_is_scikit_learns_in_any_split(classes: int, lacking: int | None, sizes: list[int]) -> None:
    scores, targets = scores_and_classes(classes, lacking=lacking)
    if lacking is not None:
        scores[:, lacking] = -100.0  # it is neither the truth nor said
    task = Classification(nn.CrossEntropyLoss())
    found = measured(task, scores, targets, sizes)
    true, said = targets.numpy(), scores.argmax(1).numpy()
    assert 0.3 < found["accuracy"] < 0.95, "the example tells nothing"
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(true, said), abs=1e-12)
    assert found["f1"] == pytest.approx(sk.f1_score(true, said, average="macro"), abs=1e-12)
    # Of one class a sample, micro F1 is the accuracy: there is no second number to give.
    assert found["accuracy"] == pytest.approx(sk.f1_score(true, said, average="micro"), abs=1e-12)
    assert ("top5_accuracy" in found) is (classes > 5)
    if classes > 5:
        expected = sk.top_k_accuracy_score(true, scores.numpy(), k=5, labels=np.arange(classes))
        assert found["top5_accuracy"] == pytest.approx(expected, abs=1e-12)


def test_the_confusion_matrix_and_the_figures_for_each_class_are_scikit_learns() -> None:
    scores, targets = scores_and_classes(6, lacking=4)
    task = Classification(nn.CrossEntropyLoss())
    details = task.details(added(task, scores, targets, [40, 57]), len(targets))
    true, said = targets.numpy(), scores.argmax(1).numpy()
    assert details["confusion"] == sk.confusion_matrix(true, said, labels=np.arange(6)).tolist()
    expected = sk.precision_recall_fscore_support(true, said, labels=np.arange(6), zero_division=0)
    for name, column in zip(("precision", "recall", "f1", "samples"), expected, strict=True):
        assert [row[name] for row in details["per_class"]] == pytest.approx(column.tolist(), abs=1e-12)
    assert details["per_class"][4]["samples"] == 0


def test_of_soft_targets_the_largest_share_is_the_class() -> None:
    scores, targets = scores_and_classes(4)
    soft = 0.7 * nn.functional.one_hot(targets, 4) + 0.3 * nn.functional.one_hot((targets + 1) % 4, 4)
    task = Classification(nn.CrossEntropyLoss())
    assert measured(task, scores, soft, [97]) == measured(task, scores, targets, [97])
    assert task.quick(scores, soft) == task.quick(scores, targets) == (scores.argmax(1) == targets).sum()


def test_in_sequences_each_place_counts_by_itself_and_places_below_0_do_not() -> None:
    generator = torch.Generator().manual_seed(1)
    targets = torch.randint(7, (97, 11), generator=generator)
    scores = torch.randn(97, 7, 11, generator=generator) + 1.5 * nn.functional.one_hot(targets, 7).movedim(-1, 1)
    targets[::3, 5:] = -100  # padding
    task = Classification(nn.CrossEntropyLoss())
    counted = targets.flatten() >= 0
    true, said = targets.flatten()[counted].numpy(), scores.argmax(1).flatten()[counted].numpy()
    for sizes in SPLITS:
        found = measured(task, scores, targets, sizes)
        assert found["accuracy"] == pytest.approx(sk.accuracy_score(true, said), abs=1e-12)
        assert found["f1"] == pytest.approx(sk.f1_score(true, said, average="macro"), abs=1e-12)
    assert task.metrics(task.measure(scores[:2], torch.full((2, 11), -100)), 2) == {}, "there is nothing to count"


def test_the_quick_count_of_training_is_the_accuracy_of_the_evaluation() -> None:
    scores, targets = scores_and_classes(5)
    task = Classification(nn.CrossEntropyLoss())
    quick = task.quick(scores, targets)
    assert quick is not None
    assert float(quick) / 97 == measured(task, scores, targets, [97])["accuracy"]


def test_scores_that_are_none_have_no_accuracy() -> None:
    task = Classification(nn.MSELoss())
    for output, targets in ((torch.rand(5, 3), torch.rand(5, 3)), (torch.rand(5), torch.zeros(5, dtype=torch.int64)), ({}, torch.rand(5))):
        assert (task.quick(output, targets), task.measure(output, targets), task.classes(output, targets)) == (None, {}, None)
    assert task.metrics({}, 5) == task.details({}, 5) == {}


@pytest.mark.parametrize("sizes", SPLITS, ids=len)
def test_several_labels_are_scikit_learns_in_any_split(sizes: list[int]) -> None:
    generator = torch.Generator().manual_seed(2)
    targets = (torch.rand(97, 4, generator=generator) < 0.4).float()
    targets[:, 3] = 0.0  # a class that never occurs
    output = torch.randn(97, 4, generator=generator) + 2 * targets - 1
    output[:, 3] = -1.0
    task = MultiLabel(nn.BCEWithLogitsLoss())
    found = measured(task, output, targets, sizes)
    true, said = targets.numpy().astype(int), (output > 0).numpy().astype(int)
    assert 0.1 < found["exact_match"] < 0.9, "the example tells nothing"
    assert found["exact_match"] == pytest.approx(sk.accuracy_score(true, said), abs=1e-12)
    assert found["accuracy"] == pytest.approx(1 - sk.hamming_loss(true, said), abs=1e-12)
    assert found["f1_micro"] == pytest.approx(sk.f1_score(true, said, average="micro"), abs=1e-12)
    assert found["f1"] == pytest.approx(sk.f1_score(true, said, average="macro", zero_division=0), abs=1e-12)
    quick = task.quick(output, targets)
    assert quick is not None
    assert float(quick) / 97 == pytest.approx(found["accuracy"], abs=1e-12)
    details = task.details(added(task, output, targets, sizes), 97)
    matrices = sk.multilabel_confusion_matrix(true, said)
    assert details["hits"] == matrices[:, 1, 1].tolist()
    assert details["false_alarms"] == matrices[:, 0, 1].tolist()
    assert details["misses"] == matrices[:, 1, 0].tolist()


@pytest.mark.parametrize("sizes", SPLITS, ids=len)
@pytest.mark.parametrize("shape", [(97, 1), (97,)], ids=str)
def test_regression_is_scikit_learns_in_any_split(shape: tuple[int, ...], sizes: list[int]) -> None:
    generator = torch.Generator().manual_seed(3)
    targets = 3 * torch.randn(shape, generator=generator) + 5
    output = targets + torch.randn(shape, generator=generator)
    task = Regression(nn.MSELoss())
    found = measured(task, output, targets, sizes)
    true, said = targets.numpy().astype(float).reshape(-1), output.numpy().astype(float).reshape(-1)
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(true, said), rel=1e-9)
    assert found["rmse"] == pytest.approx(sk.mean_squared_error(true, said) ** 0.5, rel=1e-9)
    assert found["r2"] == pytest.approx(sk.r2_score(true, said), rel=1e-9)
    assert 0.5 < found["r2"] < 0.99, "the example tells nothing"


def test_several_numbers_a_sample_count_by_their_mean() -> None:
    generator = torch.Generator().manual_seed(4)
    targets, output = torch.randn(97, 3, 2, generator=generator), torch.randn(97, 3, 2, generator=generator)
    found = measured(Regression(nn.L1Loss()), output, targets, [97])
    true, said = targets.reshape(97, -1).numpy(), output.reshape(97, -1).numpy()
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(true, said), rel=1e-6)
    assert found["rmse"] ** 2 == pytest.approx(sk.mean_squared_error(true, said), rel=1e-6)


@pytest.mark.parametrize(("value", "n"), [(2.0, 97), (0.1, 1000), (0.0, 5)])  # the mean of 1000 times 0.1 is not 0.1
def test_targets_that_are_all_alike_have_no_explained_variance(value: float, n: int) -> None:
    found = measured(Regression(nn.MSELoss()), torch.randn(n, 1), torch.full((n, 1), value), [n])
    assert set(found) == {"mae", "rmse"}


@pytest.mark.parametrize(
    ("loss", "kind"),
    [
        (nn.CrossEntropyLoss(), Classification),
        (nn.CrossEntropyLoss(label_smoothing=0.1), Classification),
        (nn.NLLLoss(), Classification),
        (nn.BCEWithLogitsLoss(), MultiLabel),
        (nn.MSELoss(), Regression),
        (nn.HuberLoss(), Regression),
    ],
    ids=str,
)
def test_the_loss_says_what_the_task_is(loss: nn.Module, kind: type[Task]) -> None:
    assert type(auto(loss)) is kind


def test_of_errors_less_is_better_and_of_hits_more() -> None:
    for task, less, more in (
        (Regression(nn.MSELoss()), {"loss", "mae", "rmse"}, {"r2"}),
        (Classification(nn.CrossEntropyLoss()), {"loss"}, {"accuracy", "top5_accuracy", "f1"}),
        (MultiLabel(nn.BCEWithLogitsLoss()), {"loss"}, {"accuracy", "exact_match", "f1", "f1_micro"}),
    ):
        assert set(task.lower_is_better) == less
        assert not more & set(task.lower_is_better)


def test_a_task_of_no_kind_measures_the_loss_alone() -> None:
    loss: Any = nn.L1Loss()
    task, model = Task(loss), nn.Linear(3, 2)
    inputs, targets = torch.rand(4, 3), torch.rand(4, 2)
    output, value = task.run(model, inputs, targets)
    assert value == loss(model(inputs), targets)
    assert (task.quick(output, targets), task.measure(output, targets), task.metrics({}, 4)) == (None, {}, {})


def test_the_short_names_of_tasks_are_these() -> None:
    from trainer.registry import resolve

    names = ("classification", "multi_label", "regression", "loss_only")
    assert [resolve("task", Target(target=name).target) for name in names] == [Classification, MultiLabel, Regression, Task]
