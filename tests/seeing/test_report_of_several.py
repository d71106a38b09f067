"""``ostinato report`` of several runs: each can be told from the others, on the page and in the pictures."""

import re
from pathlib import Path

import pytest

from tests.support.jobs import ostinato
from tests.support.written import written
from trainer.errors import DONE

FIGURES = ("loss", "accuracy", "top5_accuracy", "f1", "recall", "precision", "skill")
MANY = 30


def figures(value: float) -> dict[str, float]:
    return dict.fromkeys(FIGURES, value)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of one name, their report and their pictures."""
    folder = tmp_path_factory.mktemp("both")
    for number, name in enumerate(("old", "new")):
        written(folder / name / "digits", [figures(0.5), figures(0.25 * (number + 1))], wrong=9 * number)
    done = ostinato(folder, "report", "old/digits", "new/digits", "-o", "both.html", "--png", "pictures")
    assert (done.returncode, done.stderr) == (DONE, "")
    return folder


def test_two_runs_of_one_name_have_different_labels_wherever_they_are_told(both: Path) -> None:
    page = (both / "both.html").read_text(encoding="utf-8")
    for number, label in enumerate(("old/digits", "new/digits"), 1):
        assert f'<a href="#run-{number}">{label}</a>' in page
        assert f"<h2>{label}</h2>" in page
        assert f'<th scope="row">{label}</th>' in page
        assert f"<span>{label}</span>" in page, "in the legends"
    assert not re.search(r">digits<", page)


def test_each_of_them_has_its_own_picture_of_its_confusion_matrix(both: Path) -> None:
    one, two = (both / "pictures" / f"{name}_digits-confusion-valid.png" for name in ("old", "new"))
    assert one.read_bytes() != two.read_bytes()


def test_names_that_are_alike_as_files_have_pictures_of_their_own(tmp_path: Path) -> None:
    for name in ("a b", "a-b", "A-b"):
        written(tmp_path / name, [figures(0.5)])
    done = ostinato(tmp_path, "report", "a b", "a-b", "A-b", "-o", "all.html", "--png", "pictures")
    assert (done.returncode, done.stderr) == (DONE, "")
    drawn = {path.name for path in (tmp_path / "pictures").glob("*confusion*")}
    assert drawn == {f"{name}.png" for name in ("a-b-confusion-valid", "a-b-confusion-valid-2", "A-b-confusion-valid-3")}


def test_the_comparison_tells_every_figure(both: Path) -> None:
    page = (both / "both.html").read_text(encoding="utf-8")
    results = page.partition("<caption>Results</caption>")[2].partition("</table>")[0]
    assert [name for name in FIGURES if f"valid {name.replace('_', ' ')}</th>" not in results] == []


def test_of_many_runs_the_best_eight_are_drawn_apart_and_the_rest_alike_and_it_is_said(tmp_path: Path) -> None:
    names = [f"run{number:02}" for number in range(MANY)]
    for number, name in enumerate(names):
        written(tmp_path / name, [figures(0.1), figures((7 * number % MANY) / 100)])
    done = ostinato(tmp_path, "report", *names, "-o", "many.html")
    assert (done.returncode, done.stderr) == (DONE, "")
    page = (tmp_path / "many.html").read_text(encoding="utf-8")
    assert "The 8 runs of the greatest validation accuracy have colours and dashes of their own; the other 22 " in page
    figure = page.partition("<title>Accuracy, validation</title>")[2].partition("</figure>")[0]
    classes = {int(line): style for style, line in re.findall(r'class="line (s\d|rest)[^"]*" data-line="(\d+)"', figure)}
    assert len(classes) == MANY
    assert len(set(classes.values())) == 9
    assert sorted(7 * line % MANY for line, style in classes.items() if style != "rest") == list(range(MANY - 8, MANY))
