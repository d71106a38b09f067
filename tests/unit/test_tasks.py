"""The metrics are scikit-learn's, and add up over batches however a set is split."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torch import Tensor, nn

from trainer.config.schema import Target
from trainer.distributed import World
from trainer.errors import TrainingError
from trainer.metrics.meters import Meters
from trainer.tasks.base import Sums, Task, less_is_better_of
from trainer.tasks.choose import auto
from trainer.tasks.classification import Classification, MultiLabel
from trainer.tasks.regression import Regression
from trainer.tasks.weights import see_lengths

SPLITS = ([97], [1] * 97, [50, 47], [3, 90, 4])


def added(task: Task, output: Tensor, targets: Tensor, sizes: list[int]) -> Sums:
    """What the batches of these sizes add up to."""
    total: Sums = {}
    for scores, true in zip(output.split(sizes), targets.split(sizes), strict=True):
        measured = task.measure(scores, true)
        for name, value in measured.items():
            assert value.dtype in (torch.int64, torch.float64), f"{name} would not add up exactly"
            assert value.shape == (total or measured)[name].shape
        total = task.merge(total, measured) if total else measured
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
    right = (scores.argmax(1) == targets).sum()
    assert (task.quick(scores, soft), task.quick(scores, targets)) == (right, (right, 97))


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
    nothing = task.metrics(task.measure(scores[:2], torch.full((2, 11), -100)), 2)
    assert set(nothing) == {"accuracy", "top5_accuracy", "f1"}, "the names stay, so that they can be watched"
    assert all(map(math.isnan, nothing.values()))


@pytest.mark.parametrize("ignored", [-100, -1, 2, 255])
@pytest.mark.parametrize("length", [None, 11])
def test_the_quick_count_of_training_is_the_accuracy_of_the_evaluation_without_what_the_loss_ignores(
    ignored: int, length: int | None
) -> None:
    generator = torch.Generator().manual_seed(7)
    shape = (97,) if length is None else (97, length)
    targets = torch.randint(5, shape, generator=generator)
    scores = torch.randn(*shape, 5, generator=generator) + 2.0 * nn.functional.one_hot(targets, 5)
    targets[::3] = ignored
    counted = targets != ignored
    true, said = targets[counted].numpy(), scores.argmax(-1)[counted].numpy()
    task = Classification(nn.CrossEntropyLoss(ignore_index=ignored))
    scores = scores.movedim(-1, 1)
    meters = Meters(2, torch.device("cpu"), task.quick_name)
    for number, (some, classes) in enumerate(zip(scores.split(10), targets.split(10), strict=True)):
        meters.add(number % 2, len(classes), task.loss(some, classes), task.quick(some, classes))
    trained, found = meters.close_epoch(World(0, 1, 0, 1, torch.device("cpu"))), measured(task, scores, targets, [50, 47])
    assert trained["accuracy"] == found["accuracy"] == sk.accuracy_score(true, said)
    assert found["f1"] == pytest.approx(sk.f1_score(true, said, average="macro"), abs=1e-12)
    assert 0.3 < found["accuracy"] < 0.95, "the example tells nothing"


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


@pytest.mark.parametrize("sizes", SPLITS, ids=len)
def test_the_explained_variance_is_that_of_each_output_by_itself(sizes: list[int]) -> None:
    generator = torch.Generator().manual_seed(5)
    targets = torch.randn(97, 3, generator=generator) * torch.tensor([1.0, 3.0, 0.0]) + torch.tensor([0.0, 100.0, 7.0])
    output = targets + torch.tensor([1.0, 0.5, 0.1]) * torch.randn(97, 3, generator=generator)
    found = measured(Regression(nn.MSELoss()), output, targets, sizes)
    assert found["r2"] == pytest.approx(sk.r2_score(targets.double(), output.double()), rel=1e-9)
    pooled = sk.r2_score(targets.double().flatten(), output.double().flatten())
    assert pooled - found["r2"] > 0.3, "the example tells nothing"


@pytest.mark.parametrize("sizes", SPLITS, ids=len)
@pytest.mark.parametrize("mean", [2e6, -1e9])
def test_the_explained_variance_holds_far_from_zero(mean: float, sizes: list[int]) -> None:
    generator = torch.Generator().manual_seed(6)
    targets = mean + torch.randn(97, 1, generator=generator, dtype=torch.float64)
    output = targets + 0.5 * torch.randn(97, 1, generator=generator)
    found = measured(Regression(nn.MSELoss()), output, targets, sizes)
    assert found["r2"] == pytest.approx(sk.r2_score(targets, output), rel=1e-6)
    assert 0.5 < found["r2"] < 0.9, "the example tells nothing"


def test_of_pictures_there_is_no_explained_variance() -> None:
    assert set(measured(Regression(nn.MSELoss()), torch.rand(3, 3, 40, 40), torch.rand(3, 3, 40, 40), [2, 1])) == {"mae", "rmse"}


@pytest.mark.parametrize("loss", [nn.MSELoss(), nn.L1Loss(), nn.HuberLoss(), nn.SmoothL1Loss()], ids=str)
@pytest.mark.parametrize("kind", [Regression, Task])
@pytest.mark.parametrize("whole", [False, True])
def test_one_number_a_sample_is_one_whatever_its_shape(loss: nn.Module, kind: type[Task], whole: bool) -> None:
    targets = torch.arange(12) if whole else torch.arange(12.0)
    for output, given in ((targets.float().unsqueeze(1) + 1, targets), (targets.float() + 1, targets.unsqueeze(1))):
        task, leaf = kind(loss), output.clone().requires_grad_()
        _, value = task.run(lambda _, leaf=leaf: leaf, None, given)
        value.backward()
        assert value == loss(torch.ones(12), torch.zeros(12)), "each number is compared with its own"
        assert leaf.grad is not None
        if kind is Regression:
            assert task.quick(output, given) == 12
            assert measured(task, output, given, [7, 5])["mae"] == 1.0


@pytest.mark.parametrize("kind", [Regression, Task])
@pytest.mark.parametrize(("output", "targets"), [((8, 3), (8, 1)), ((8, 3), (8,)), ((8, 2, 2), (8, 4)), ((8,), (8, 2))])
def test_shapes_that_would_be_stretched_are_refused_in_one_line(kind: type[Task], output: Any, targets: Any) -> None:
    with pytest.raises(TrainingError, match=r"^the model's output has shape \(n,.*\), and the targets \(n,.*\); this loss needs") as caught:
        kind(nn.MSELoss()).run(lambda _: torch.rand(output), None, torch.rand(targets))
    assert "\n" not in str(caught.value)


def test_several_numbers_a_sample_count_by_their_mean() -> None:
    generator = torch.Generator().manual_seed(4)
    targets, output = torch.randn(97, 3, 2, generator=generator), torch.randn(97, 3, 2, generator=generator)
    found = measured(Regression(nn.L1Loss()), output, targets, [97])
    true, said = targets.reshape(97, -1).numpy(), output.reshape(97, -1).numpy()
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(true, said), rel=1e-6)
    assert found["rmse"] ** 2 == pytest.approx(sk.mean_squared_error(true, said), rel=1e-6)


@pytest.mark.parametrize(("value", "n"), [(2.0, 97), (0.1, 1000), (0.0, 5)])  # the mean of 1000 times 0.1 is not 0.1
def test_of_targets_that_are_all_alike_nothing_can_be_explained(value: float, n: int) -> None:
    alike = torch.full((n, 1), value)
    for output in (torch.randn(n, 1), alike):
        found = measured(Regression(nn.MSELoss()), output, alike, [n - 3, 3])
        assert found["r2"] == float(output is alike), "as scikit-learn has it, where its own mean is free of rounding"


@pytest.mark.parametrize("task", [Classification(nn.CrossEntropyLoss()), MultiLabel(nn.BCEWithLogitsLoss()), Regression(nn.MSELoss())])
def test_of_nothing_there_are_no_metrics(task: Task) -> None:
    assert task.metrics({}, 8) == {}


WEIGHTED = [
    (nn.CrossEntropyLoss(weight=torch.tensor([1.0, 3.0, 7.0])), False),
    (nn.NLLLoss(weight=torch.tensor([1.0, 3.0, 7.0]), ignore_index=1), False),
    (nn.CrossEntropyLoss(ignore_index=2, label_smoothing=0.1), False),
    (nn.CrossEntropyLoss(weight=torch.tensor([1.0, 3.0, 7.0]), ignore_index=255, label_smoothing=0.1), False),
    (nn.CrossEntropyLoss(), False),
    (nn.CrossEntropyLoss(weight=torch.tensor([1.0, 3.0, 7.0])), True),
    (nn.BCEWithLogitsLoss(weight=torch.tensor([1.0, 3.0, 7.0])), True),
]


@pytest.mark.parametrize("length", [None, 6])
@pytest.mark.parametrize(("loss", "soft"), WEIGHTED, ids=str)
def test_the_weights_of_losses_make_their_mean_that_of_the_whole_set(loss: nn.Module, soft: bool, length: int | None) -> None:
    generator = torch.Generator().manual_seed(8)
    shape = (97,) if length is None else (97, length)
    targets: Tensor = torch.randint(3, shape, generator=generator).sort(0).values
    if getattr(loss, "ignore_index", 0) == 255:
        targets[::4] = 255
    scores = torch.randn(*shape, 3, generator=generator)
    if soft and length is None:
        targets = nn.functional.one_hot(targets, 3).float()
    elif soft:
        return  # shares have no places
    scores = scores.movedim(-1, 1)
    task = Task(loss)
    total = weight = 0.0
    for some, true in zip(scores.split(10), targets.split(10), strict=True):
        _, value = task.run(lambda _, some=some: some, None, true)
        share = task.loss_weight(some, true)
        each = len(true) if share is None else float(share)
        total, weight = total + (float(value) * each if each else 0.0), weight + each
    assert total / weight == pytest.approx(float(loss(scores, targets)), rel=1e-5)


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


class Wide(Regression):
    """Names metrics of its own, one of them without the comma that makes a tuple, and thinks otherwise of two."""

    lower_is_better = "bits", "r2"
    higher_is_better: Any = "width"


class Wider(Wide):
    higher_is_better = ("rmse",)


def test_of_errors_less_is_better_and_of_hits_more() -> None:
    for task, less, more in (
        (Regression(nn.MSELoss()), {"loss", "mae", "rmse"}, {"r2"}),
        (Wider(nn.MSELoss()), {"loss", "mae", "bits", "r2"}, {"rmse", "width"}),
        (Classification(nn.CrossEntropyLoss()), {"loss"}, {"accuracy", "top5_accuracy", "f1"}),
        (MultiLabel(nn.BCEWithLogitsLoss()), {"loss"}, {"accuracy", "exact_match", "f1", "f1_micro"}),
    ):
        assert [less_is_better_of(type(task), name) for name in less] == [True] * len(less)
        assert [less_is_better_of(type(task), name) for name in more] == [False] * len(more)
        assert less_is_better_of(type(task), "weight") is None


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


@pytest.mark.parametrize("sizes", SPLITS, ids=len)
def test_of_very_many_classes_the_figures_are_the_same_without_a_matrix(monkeypatch: pytest.MonkeyPatch, sizes: list[int]) -> None:
    scores, targets = scores_and_classes(8, lacking=2)
    targets = torch.where(torch.arange(97) % 5 == 0, -100, targets)
    task = Classification(nn.CrossEntropyLoss())
    metrics, details = measured(task, scores, targets, sizes), task.details(added(task, scores, targets, sizes), 97)
    monkeypatch.setattr("trainer.tasks.classification.MATRIX", 7)
    many = added(task, scores, targets, sizes)
    assert max(value.numel() for value in many.values()) == 8  # not their square
    assert task.metrics(many, 97) == metrics
    assert task.details(many, 97) == {"per_class": details["per_class"]}


def test_a_thousand_classes_have_a_matrix_and_more_have_none() -> None:
    task = Classification(nn.CrossEntropyLoss())
    for classes, matrix in ((1000, True), (1001, False)):
        sums = task.measure(torch.randn(6, classes), torch.arange(6))
        assert ("confusion" in sums) is matrix


ONE = nn.BCEWithLogitsLoss()


@pytest.mark.parametrize(
    ("output", "targets"),
    [
        (torch.tensor([2.0, -1.0, 0.5]), torch.tensor([1.0, 0.0, 0.0])),
        (torch.tensor([2.0, -1.0, 0.5]), torch.tensor([1, 0, 0])),
        (torch.tensor([[2.0], [-1.0], [0.5]]), torch.tensor([1, 0, 0])),
    ],
)
def test_one_yes_or_no_a_sample_needs_no_second_dimension_and_no_fractions(output: Tensor, targets: Tensor) -> None:
    task = MultiLabel(ONE)
    found, loss = task.run(lambda inputs: inputs, output, targets)
    assert loss == ONE(output.flatten(), targets.float())
    metrics = task.metrics(task.measure(found, targets), 3)
    assert task.quick(found, targets) == 2
    assert metrics == pytest.approx({"accuracy": 2 / 3, "exact_match": 2 / 3, "f1": 2 / 3, "f1_micro": 2 / 3})


def test_whole_numbers_are_labels_as_well() -> None:
    scores, tags = torch.randn(9, 4), torch.randint(0, 2, (9, 4))
    task = MultiLabel(ONE)
    assert task.run(lambda inputs: inputs, scores, tags)[1] == ONE(scores, tags.float())
    assert task.metrics(task.measure(scores, tags), 9) == task.metrics(task.measure(scores, tags.float()), 9)
    with pytest.raises(TrainingError, match=r"has shape \(n, 4\), and the targets \(n, 3\); this loss needs the same shape of both"):
        task.run(lambda inputs: inputs, scores, tags[:, :3])


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (nn.CrossEntropyLoss(torch.ones(3)), "loss.weight has length 3, and the model's output 4 classes; give one number for each"),
        (nn.BCEWithLogitsLoss(torch.ones(5)), "loss.weight has length 5, and the model's output 4 classes"),
        (nn.BCEWithLogitsLoss(pos_weight=torch.ones(2)), "loss.pos_weight has length 2, and the model's output 4 classes"),
    ],
)
def test_weights_that_are_not_as_many_as_the_classes_are_said_in_one_line(loss: nn.Module, said: str) -> None:
    with pytest.raises(TrainingError, match=said):
        see_lengths(loss, torch.zeros(2, 4))
    see_lengths(nn.BCEWithLogitsLoss(pos_weight=torch.ones(1)), torch.zeros(2, 4))
    see_lengths(nn.CrossEntropyLoss(torch.ones(4)), torch.zeros(2, 4, 7))
