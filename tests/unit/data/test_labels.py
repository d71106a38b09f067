"""Labels that the model has no class for are found before the first step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.utils.data import ConcatDataset, Subset

from trainer.data.datasets import ArrayDataset, Digits, fake_data
from trainer.data.labels import check_labels
from trainer.data.transforms import Transformed
from trainer.errors import TrainingError


def labelled(**labels: float) -> ArrayDataset:
    """30 samples of class 0; ``s17=12`` gives sample 17 the label 12."""
    targets = torch.zeros(30, dtype=torch.float64 if any(value % 1 for value in labels.values()) else torch.int64)
    for name, value in labels.items():
        targets[int(name[1:])] = value
    return ArrayDataset(torch.zeros(30, 2), targets)


def test_a_label_beyond_the_classes_is_named_with_its_sample() -> None:
    with pytest.raises(TrainingError) as caught:
        check_labels(labelled(s17=12), 10)
    assert str(caught.value) == "data set ArrayDataset: sample 17 has label 12; the model has 10 classes (0 … 9)"
    with pytest.raises(TrainingError, match=r"sample 3 has label -1, and 1 more; the model has 4 classes \(0 … 3\)"):
        check_labels(labelled(s3=-1, s20=4), 4)
    with pytest.raises(TrainingError, match=r"sample 3 has label 0.5"):
        check_labels(labelled(s3=0.5), 4)


def test_labels_are_found_behind_transforms_and_parts() -> None:
    bad = labelled(s17=12)
    for dataset, index in [
        (Transformed(bad), 17),
        (Subset(bad, range(10, 30)), 7),  # type: ignore[arg-type]
        (ConcatDataset([labelled(), bad]), 47),  # type: ignore[list-item]
        (Transformed(Subset(bad, [17])), 0),  # type: ignore[arg-type]
    ]:
        with pytest.raises(TrainingError, match=f"sample {index} has label 12"):
            check_labels(dataset, 10)
    check_labels(Subset(bad, range(17)), 10)  # type: ignore[arg-type]


def test_good_labels_and_those_that_the_loss_leaves_out_pass() -> None:
    check_labels(labelled(s17=9), 10)
    check_labels(labelled(s17=-100), 10)
    check_labels(labelled(s17=255), 10, ignore_index=255)
    check_labels(Digits("train"), 10)
    check_labels(fake_data(size=10), 10)
    with pytest.raises(TrainingError):
        check_labels(labelled(s17=-100), 10, ignore_index=255)
    with pytest.raises(TrainingError):
        check_labels(Digits("train"), 9)


@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor])
def test_labels_may_be_held_in_any_way(kind: type) -> None:
    class Held:
        def __init__(self) -> None:
            self.labels = kind([0, 1, 2, 7])

        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            return torch.zeros(1), int(self.labels[index])

    with pytest.raises(TrainingError, match="data set Held: sample 3 has label 7; the model has 5 classes"):
        check_labels(Held(), 5)


def test_labels_that_the_data_set_changes_as_it_reads_are_judged_as_read() -> None:
    class FromOne:
        """Keeps 1 … 10 and gives 0 … 9."""

        def __init__(self) -> None:
            self.targets = list(range(1, 11))

        def __len__(self) -> int:
            return 10

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            return torch.zeros(1), self.targets[index] - 1

    check_labels(FromOne(), 10)


def test_a_set_that_reads_whole_batches_only_is_judged_as_well() -> None:
    class Batches:
        def __init__(self) -> None:
            self.targets = torch.tensor([0, 1, 5])

        def __len__(self) -> int:
            return 3

        def get_batch(self, indices: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.zeros(len(indices), 1), self.targets[torch.from_numpy(indices)]

    with pytest.raises(TrainingError, match="data set Batches: sample 2 has label 5"):
        check_labels(Batches(), 5)


def test_a_folder_of_images_names_the_file(tmp_path: Path) -> None:
    from PIL import Image

    from trainer.data.vision_sets import image_folder

    for name in ("cat", "dog", "eel"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (4, 4)).save(tmp_path / name / "1.png")
    check_labels(image_folder(str(tmp_path)), 3)
    with pytest.raises(TrainingError, match=r"data set ImageFolder: sample 2 \(.*eel/1.png\) has label 2; the model has 2 classes"):
        check_labels(image_folder(str(tmp_path)), 2)
