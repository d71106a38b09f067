"""Several runs in one report have labels of their own, and the best of them colours and dashes of their own."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.report.apart import labels, note, styles
from launcher.report.read import RunData, read
from tests.support.written import written

paths = st.lists(st.sampled_from("abc"), min_size=1, max_size=5).map(lambda parts: Path("/nowhere", *parts))


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (["runs/digits"], ["digits"]),
        (["runs/digits", "runs/faster"], ["digits", "faster"]),
        (["old/digits", "new/digits", "new/faster"], ["old/digits", "new/digits", "faster"]),
        (["x/old/digits", "y/old/digits", "new/digits"], ["x/old/digits", "y/old/digits", "new/digits"]),
        (["old/../new/digits", "old/./digits"], ["new/digits", "old/digits"]),
    ],
)
def test_a_label_is_the_name_and_where_names_are_the_same_more_of_the_path(folders: list[str], expected: list[str]) -> None:
    assert labels([Path(folder) for folder in folders]) == expected


@given(st.lists(paths, min_size=1, max_size=8, unique=True))
def test_different_folders_never_have_the_same_label(folders: list[Path]) -> None:
    found = labels(folders)
    assert len(set(found)) == len(folders)
    assert all(str(folder).endswith(label) for folder, label in zip(folders, found, strict=True))


def test_a_run_that_is_named_from_within_has_the_name_of_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "digits").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "digits")
    monkeypatch.chdir(tmp_path / "digits")
    assert labels([Path()]) == ["digits"]
    assert labels([Path("../link")]) == ["digits"]


def runs(folder: Path, accuracies: list[float], monitors: tuple[str, ...] = ("auto",)) -> list[RunData]:
    found = []
    for number, accuracy in enumerate(accuracies):
        figures = {"accuracy": accuracy, "loss": accuracy / 2}
        found.append(read(written(folder / f"run{number}", [figures, {"loss": 9.0}], monitor=monitors[number % len(monitors)])))
    return found


def test_up_to_eight_runs_all_have_a_style_of_their_own(tmp_path: Path) -> None:
    found = runs(tmp_path, [0.5] * 8)
    assert styles(found) == list(range(8))
    assert note(found) is None


def test_of_more_the_best_eight_have_one_by_the_best_evaluation_of_each(tmp_path: Path) -> None:
    found = runs(tmp_path, [0.1, 0.9, 0.2, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.95])
    assert styles(found) == [None, 0, None, 1, 2, 3, 4, 5, 6, 7]
    assert (note(found) or "").startswith(
        "The 8 runs of the greatest validation accuracy have colours and dashes of their own; the other 2 "
    )


def test_where_less_of_what_they_watch_is_better_the_least_lead(tmp_path: Path) -> None:
    found = runs(tmp_path, [0.1 * number for number in range(10)], ("loss",))
    assert styles(found) == [*range(8), None, None]
    assert "of the least validation loss" in (note(found) or "")


def test_a_run_that_was_never_evaluated_comes_behind_the_others(tmp_path: Path) -> None:
    found = [read(written(tmp_path / "none", [])), *runs(tmp_path, [0.5] * 8)]
    assert styles(found) == [None, *range(8)]


def test_where_none_was_evaluated_the_first_eight_lead(tmp_path: Path) -> None:
    found = [read(written(tmp_path / f"run{number}", [])) for number in range(9)]
    assert styles(found) == [*range(8), None]
    assert (note(found) or "").startswith("The first 8 runs have")


def test_where_they_watch_different_things_the_first_eight_lead(tmp_path: Path) -> None:
    found = runs(tmp_path, [0.1 * number for number in range(10)], ("loss", "accuracy"))
    assert styles(found) == [*range(8), None, None]
    assert (note(found) or "").startswith("The first 8 runs ")
