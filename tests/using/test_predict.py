"""`ostinato predict` answers new inputs as the run's own evaluation would, whatever kind of file they are in."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.image_files import write_corrupt, write_folder, write_kinds
from tests.support.jobs import LIMIT_S, ROOT, ostinato, start
from tests.using.runs import DIGITS, answers, trained
from trainer.data.datasets import Digits
from trainer.errors import TrainingError
from trainer.finished import data_of, open_run
from trainer.predict import InputError, Prediction, Predictor
from trainer.rundir import RunDir

CLASSES = ("ants", "bees", "cats")
SMALL: dict[str, Any] = {"optimizer": {"target": "sgd", "lr": 0.05}, "train": {"epochs": 1}}


def of_images(folder: Path, train: dict[str, Any], transforms: list[dict[str, Any]]) -> dict[str, Any]:
    data = {"train": train, "valid": train, "batch_size": 6, "eval_transforms": transforms, "train_transforms": transforms}
    return {**SMALL, "model": {"target": "cnn", "in_channels": 3, "num_classes": 3, "width": 4}, "data": data}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A run on photographs of several sizes, whose data are gone when it is asked."""
    folder = tmp_path_factory.mktemp("photos")
    write_folder(folder / "photos", size=(40, 30), classes=CLASSES)
    transforms = [{"target": "Resize", "size": [16, 16]}, {"target": "Normalize", "mean": [0.5] * 3, "std": [0.5] * 3}]
    run = trained(folder, "photos", of_images(folder, {"target": "image_folder", "root": "photos"}, transforms))
    (folder / "photos").rename(folder / "kept")
    return run


def own_answers(run: RunDir, split: str = "valid") -> tuple[torch.Tensor, Any]:
    """What the run's model says to a data set, through the data set."""
    finished = open_run(str(run.path))
    dataset = data_of(finished, split)
    with torch.no_grad():
        return torch.stack([finished.model(torch.as_tensor(dataset[i][0]).unsqueeze(0))[0] for i in range(len(dataset))]), dataset


def shares(rows: list[dict[str, Any]], classes: tuple[str, ...] = CLASSES) -> np.ndarray:
    """The probabilities of each input by class."""
    told = [{pair["label"]: pair["probability"] for pair in row["predictions"]} for row in rows]
    return np.array([[row[name] for name in classes] for row in told])


def test_photographs_are_answered_as_the_data_set_gives_them_to_the_model(photos: RunDir) -> None:
    folder = photos.path.parents[1]
    found = answers(folder, "runs/photos", "kept")
    assert [row["input"] for row in found] == sorted(f"kept/{name}/{i}.png" for name in CLASSES for i in range(6))
    (folder / "photos").symlink_to("kept")
    try:
        expected = own_answers_in(folder, photos).softmax(1)
    finally:
        (folder / "photos").unlink()
    np.testing.assert_allclose(shares(found), expected, atol=1e-6)
    for row in found:
        values = [pair["probability"] for pair in row["predictions"]]
        assert values == sorted(values, reverse=True)
        assert sum(values) == pytest.approx(1)


def own_answers_in(folder: Path, run: RunDir) -> torch.Tensor:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return own_answers(run)[0]


def test_batches_and_top_k_change_nothing_but_the_length(photos: RunDir) -> None:
    folder = photos.path.parents[1]
    whole, single = answers(folder, "runs/photos", "kept"), answers(folder, "runs/photos", "kept", "--batch-size", "5", "--top-k", "1")
    assert [len(row["predictions"]) for row in single] == [1] * len(whole)
    for one, other in zip(single, whole, strict=True):
        assert one["predictions"][0]["label"] == other["predictions"][0]["label"]
        assert one["predictions"][0]["probability"] == pytest.approx(other["predictions"][0]["probability"], abs=1e-6)


def test_any_kind_of_picture_is_read_and_what_is_none_is_one_line_each(photos: RunDir, tmp_path: Path) -> None:
    write_kinds(tmp_path / "kinds")
    write_corrupt(tmp_path / "corrupt")
    done = ostinato(tmp_path, "predict", str(photos.path), "kinds", "corrupt", "missing.jpg", "--csv", "answers.csv")
    assert done.returncode == 4
    assert "Traceback" not in done.stderr
    refused = {line.partition(":")[0] for line in done.stderr.splitlines()}
    assert len(done.stderr.splitlines()) == len(refused)
    assert refused == {"kinds/real.tif", "missing.jpg"} | {f"corrupt/{path.name}" for path in (tmp_path / "corrupt").iterdir()}
    answered = {line.split()[0] for line in done.stdout.splitlines()}
    assert answered == {f"kinds/{path.name}" for path in (tmp_path / "kinds").iterdir()} - refused
    with open(tmp_path / "answers.csv", newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert {row["input"] for row in table if row["error"]} == refused
    assert {row["input"] for row in table if row["label_1"]} == answered


def test_an_input_is_never_written_over(photos: RunDir, tmp_path: Path) -> None:
    write_folder(tmp_path / "new", classes=("ants",))
    picture = min((tmp_path / "new").rglob("*.png"))
    before = picture.read_bytes()
    for named in (str(picture), "new"):
        done = ostinato(tmp_path, "predict", str(photos.path), named, "--csv", str(picture))
        assert done.returncode == 2
        assert "is one of the inputs, or lies among them" in done.stderr
    assert picture.read_bytes() == before


def test_names_that_are_no_text_or_would_colour_the_terminal_are_told_and_kept(photos: RunDir, tmp_path: Path) -> None:
    picture = min((photos.path.parents[1] / "kept").rglob("*.png")).read_bytes()
    for name in (b"caf\xe9.png", b"red\x1b[31m\n.png", b"plain.png"):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(picture)
    process = start(tmp_path, "predict", str(photos.path), ".", "plain.png", "--csv", "answers.csv", PYTHONIOENCODING="utf-8:strict")
    out, err = process.communicate(timeout=LIMIT_S)
    assert (process.returncode, err) == (0, "")
    assert len(out.splitlines()) == 4, "a line for each, and one for the one that was named twice"
    assert "\x1b" not in out
    with open(tmp_path / "answers.csv", newline="", encoding="utf-8") as file:
        assert len({row["input"] for row in csv.DictReader(file)} & {"./caf\\udce9.png", "./plain.png", "plain.png"}) >= 2


def test_each_input_is_called_as_it_was_typed_and_is_no_formula_in_a_table(photos: RunDir, tmp_path: Path) -> None:
    picture = min((photos.path.parents[1] / "kept").rglob("*.png")).read_bytes()
    (tmp_path / "new").mkdir()
    for name in ("photo", "photo2.png", "=1+1.png", "@x.png", "new/=2.png"):
        (tmp_path / name).write_bytes(picture)
    typed = ["./photo", "photo2.png", "photo", str(tmp_path / "photo2.png"), "new/", "new", "=1+1.png", "@x.png"]
    called = [*typed[:4], "new/=2.png", "new/=2.png", *typed[6:]]
    found = answers(tmp_path, str(photos.path), *typed, "--csv", "answers.csv")
    assert [row["input"] for row in found] == called
    with open(tmp_path / "answers.csv", newline="", encoding="utf-8") as file:
        assert [row["input"] for row in csv.DictReader(file)] == [*called[:6], "./=1+1.png", "./@x.png"]


def test_a_picture_turned_by_its_exif_data_is_turned_back_first(photos: RunDir, tmp_path: Path) -> None:
    from PIL import Image

    upright = Image.new("RGB", (20, 30), (200, 20, 20))
    upright.paste((10, 20, 230), (0, 0, 20, 15))
    upright.save(tmp_path / "upright.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "lying.png")
    lying, turned, right = shares(answers(tmp_path, str(photos.path), "lying.png", "turned.png", "upright.png"))
    np.testing.assert_array_equal(turned, right)
    assert not np.array_equal(lying, right)


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A run on the middle of small pictures of one size, which are in memory."""
    folder = tmp_path_factory.mktemp("memory")
    write_folder(folder / "photos", per_class=4, size=(12, 10), classes=CLASSES)
    train = {"target": "in_memory", "of": {"target": "image_folder", "root": "photos"}}
    transforms: list[dict[str, Any]] = [{"target": "CenterCrop", "size": 8}, {"target": "cifar_eval", "mean": [0.5] * 3, "std": [0.25] * 3}]
    return trained(folder, "memory", of_images(folder, train, transforms))


def test_in_memory_pictures_are_prepared_as_a_batch_is(memory: RunDir) -> None:
    folder = memory.path.parents[1]
    expected = own_answers_in(folder, memory).softmax(1)
    np.testing.assert_allclose(shares(answers(folder, "runs/memory", "photos")), expected, atol=1e-6)


def test_where_pictures_are_only_cropped_a_large_one_is_made_small_first_and_not_a_crumb_of_it(memory: RunDir) -> None:
    from PIL import Image

    asked = Predictor(memory.path)
    large = Image.new("RGB", (1200, 1000), (255, 0, 0))
    large.paste((0, 0, 255), (580, 480, 620, 520))
    red, green, blue = (asked.prepare(large) * 0.25 + 0.5).mean((1, 2)).tolist()
    assert red > 0.98
    assert (green, blue) == (pytest.approx(0, abs=1e-6), pytest.approx(0, abs=0.01)), "its blue point is smaller than a pixel"
    picture = Image.open(min((memory.path.parents[1] / "photos").rglob("*.png")))
    assert picture.size == asked.inputs.size == (12, 10)
    middle = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[:, 1:9, 2:10].float() / 255
    assert torch.equal(asked.prepare(picture), (middle - 0.5) / 0.25), "one of the right size is as it is"


@pytest.fixture(scope="module")
def predictor(digits: RunDir) -> Predictor:
    return Predictor(digits.path)


def test_pictures_of_another_size_are_brought_to_the_data_sets(predictor: Predictor) -> None:
    from PIL import Image

    pixels = (Digits("test").inputs[0, 0] * 255).round().to(torch.uint8)
    small = Image.fromarray(pixels.numpy())
    large = small.resize((800, 800), Image.Resampling.NEAREST).convert("RGBA")
    exact, found = predictor.predict([small], top_k=10)[0], predictor.predict([large], top_k=10)[0]
    assert dict(found.pairs) == pytest.approx(dict(exact.pairs), abs=1e-6)
    assert predictor.prepare(large).shape == (1, 8, 8)
    assert predictor.predict([np.array(small)], top_k=10)[0] == exact
    assert (predictor.kind, predictor.classes) == ("image", [str(digit) for digit in range(10)])


def test_an_array_of_pictures_is_answered_row_by_row(digits: RunDir, predictor: Predictor, tmp_path: Path) -> None:
    images = Digits("test", **{"test_fraction": 0.1508, "valid_fraction": 0.1}).inputs[:5]
    np.save(tmp_path / "five.npy", images.numpy())
    found = answers(tmp_path, str(digits.path), "five.npy", "--top-k", "10")
    assert [row["input"] for row in found] == [f"five.npy[{i}]" for i in range(5)]
    with torch.no_grad():
        expected = predictor.finished.model(images).double().softmax(1)
    np.testing.assert_allclose(shares(found, tuple(map(str, range(10)))), expected, atol=1e-6)


def test_one_bad_input_among_several_raises_one_line(predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "page.jpg").write_text("<html>")
    with pytest.raises(InputError, match=r"page\.jpg: no image, or of a kind that is not known$"):
        predictor.predict([str(tmp_path / "page.jpg")])
    assert predictor.predict([]) == []


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    folder = tmp_path_factory.mktemp("letters")
    shutil.copy(ROOT / "examples" / "tickets.csv", folder / "tickets.csv")
    data = {
        split: {"target": "bag_of_words", "path": "tickets.csv", "split": split, "max_features": 50} for split in ("train", "valid", "test")
    }
    model = {"target": "mlp", "in_features": 50, "hidden": [], "num_classes": 4}
    return trained(folder, "letters", {**SMALL, "model": model, "data": {**data, "batch_size": 16}})


def test_texts_are_lines_of_a_file_or_a_column_of_a_table(letters: RunDir) -> None:
    folder = letters.path.parents[1]
    expected, dataset = own_answers_of_texts(folder, letters)
    texts = dataset._texts[:6]
    (folder / "six.txt").write_text("\n\n".join(text.replace("\n", " ") for text in texts), encoding="utf-8")
    with open(folder / "six.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["number", "text"], *([i, text] for i, text in enumerate(texts))])
    (folder / "tickets.csv").rename(folder / "gone.csv")
    try:
        lines, table = answers(folder, "runs/letters", "six.txt"), answers(folder, "runs/letters", "six.csv")
    finally:
        (folder / "gone.csv").rename(folder / "tickets.csv")
    classes = tuple(dataset.classes)
    np.testing.assert_allclose(shares(lines, classes), expected[:6].softmax(1), atol=1e-6)
    np.testing.assert_allclose(shares(table, classes), expected[:6].softmax(1), atol=1e-6)
    assert [row["input"] for row in lines] == [f"six.txt:{1 + 2 * i}" for i in range(6)]


def own_answers_of_texts(folder: Path, run: RunDir) -> tuple[torch.Tensor, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return own_answers(run, "test")


def test_a_kind_of_file_that_the_run_cannot_read_is_one_line(letters: RunDir, photos: RunDir, tmp_path: Path) -> None:
    write_kinds(tmp_path / "kinds")
    (tmp_path / "note.txt").write_text("help\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "wrong.csv").write_text("letter\nhelp\n")
    done = ostinato(tmp_path, "predict", str(letters.path), "kinds/rgb.png", "empty", "wrong.csv", "note.txt")
    assert done.returncode == 4
    assert done.stderr.splitlines() == [
        "kinds/rgb.png: a run on texts reads .txt, .csv, .tsv",
        "empty: a folder without files that this run could read (.txt, .csv, .tsv)",
        f"wrong.csv: {tmp_path}/wrong.csv:1: there is no column 'text'; it has letter",
    ]
    assert done.stdout.startswith("note.txt:1  ")
    done = ostinato(tmp_path, "predict", str(photos.path), "note.txt")
    assert (done.returncode, done.stderr) == (4, "note.txt: no image, or of a kind that is not known\n")


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    folder = tmp_path_factory.mktemp("numbers")
    values = np.random.default_rng(0).normal(size=(60, 3))
    with open(folder / "table.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["a", "b", "c", "y"], *([*row, row[0] - 2 * row[2]] for row in values.tolist())])
    train = {"target": "csv_table", "path": "table.csv", "predict": "y", "task": "regression"}
    data = {"train": train, "valid_fraction": 0.2, "batch_size": 12}
    model = {"target": "mlp", "in_features": 3, "num_classes": 1, "hidden": 8}
    return trained(folder, "numbers", {**SMALL, "model": model, "loss": {"target": "mse"}, "data": data})


def test_rows_of_tables_and_arrays_are_answered_with_values(numbers: RunDir) -> None:
    folder = numbers.path.parents[1]
    rows = np.array([[0.5, 1.0, -1.0], [2.0, 0.0, 0.25]], dtype=np.float32)
    np.save(folder / "rows.npy", rows)
    (folder / "other.csv").write_text("c,b,id,a\n-1.0,1.0,7,0.5\n0.25,0.0,8,2.0\n")  # other columns, in another order
    (folder / "bad.csv").write_text("a,b\n1,2\n")
    np.save(folder / "wide.npy", np.zeros((2, 4), dtype=np.float32))
    found = answers(folder, "runs/numbers", "rows.npy", "other.csv", "bad.csv", "wide.npy", code=4)
    with torch.no_grad():
        expected = open_run(str(numbers.path)).model(torch.from_numpy(rows)).double().tolist()
    assert [row["values"] for row in found[:2]] == [pytest.approx(value, abs=1e-6) for value in expected]
    assert [row["values"] for row in found[2:4]] == [pytest.approx(value, abs=1e-6) for value in expected]
    assert "there is no column 'c'" in found[4]["error"]
    assert [row["error"] for row in found[5:]] == ["it has shape [4], and the run's inputs have [3]"] * 2
    # A batch of one may be summed in another order than a batch of two.
    assert Predictor(numbers.path).predict([[0.5, 1.0, -1.0]]) == [Prediction(values=pytest.approx(tuple(expected[0]), abs=1e-6))]


def test_an_input_for_which_the_model_gives_no_number_is_one_line_and_the_others_are_answered(numbers: RunDir, tmp_path: Path) -> None:
    asked = Predictor(numbers.path)
    first = next(parameter for parameter in asked.finished.model.parameters() if parameter.shape == (8, 3))
    beyond = 3.4e38 * first[first.abs().sum(1).argmax()].sign()
    with torch.no_grad():
        assert not bool(asked.finished.model(beyond.unsqueeze(0)).isfinite().all()), "float32 does not reach that far"
    np.save(tmp_path / "rows.npy", np.stack([np.ones(3, np.float32), beyond.detach().numpy()]))
    done = ostinato(tmp_path, "predict", str(numbers.path), "rows.npy", "--json")
    assert (done.returncode, done.stderr) == (4, "rows.npy[1]: the model gives NaN or infinity for it, which is no answer\n")
    good, bad = json.loads(done.stdout, parse_constant=pytest.fail)
    assert good == {"input": "rows.npy[0]", "values": [pytest.approx(asked.predict([[1, 1, 1]])[0].values[0], abs=1e-6)]}
    assert set(bad) == {"input", "error"}
    with pytest.raises(InputError, match="NaN or infinity for input 2 of 2"):
        asked.predict([[1, 1, 1], beyond.tolist()])


def test_values_without_a_dimension_of_their_own_are_told_too(numbers: RunDir) -> None:
    found = Predictor(numbers.path)._told(torch.tensor([1.0, 2.0]), torch.zeros(2, 3), 5)
    assert found == [Prediction(values=(1.0,)), Prediction(values=(2.0,))]


def test_a_language_model_says_what_comes_next(tmp_path: Path) -> None:
    (tmp_path / "tale.txt").write_text("the tide comes and the tide goes. " * 40)
    sets = {split: {"target": "char_text", "path": "tale.txt", "length": 16, "split": split} for split in ("train", "valid")}
    config = {
        "model": {"target": "examples.char_lm:CharGRU", "characters": 20, "width": 8, "layers": 1},
        "task": {"target": "examples.char_lm:NextCharacter"},
        "data": {**sets, "batch_size": 8},
        "optimizer": {"target": "adamw", "lr": 0.02},
        "train": {"epochs": 6},
    }
    run = trained(tmp_path, "tale", config)
    (tmp_path / "lines.txt").write_text("the tid\nTHE TID\n")
    found = answers(tmp_path, "runs/tale", "lines.txt", "--top-k", "3", code=4)
    assert found[0]["predictions"][0]["label"] == "e"
    assert found[1]["error"] == "it has the character 'T', which the run's text has not"
    assert Predictor(run.path).kind == "text"


def test_a_text_as_long_as_there_are_characters_is_answered_as_any_other(tmp_path: Path) -> None:
    (tmp_path / "round.txt").write_text("abcd" * 100)
    sets = {split: {"target": "char_text", "path": "round.txt", "length": 8, "split": split} for split in ("train", "valid")}
    model = {"target": "tests.using.runs:Bigram", "characters": 4}
    run = trained(tmp_path, "round", {**SMALL, "model": model, "data": {**sets, "batch_size": 8}})
    asked = Predictor(run.path)
    with torch.no_grad():
        scores = next(asked.finished.model.parameters())[3]
    expected = dict(zip("abcd", scores.double().softmax(0).tolist(), strict=True))
    for text in ("bcd", "abcd", "dabcd"):
        assert dict(asked.predict([text])[0].pairs) == pytest.approx(expected, abs=1e-6), text


def test_inputs_that_are_none_of_these_are_refused_with_what_to_do(tmp_path: Path) -> None:
    data = {"train": {"target": "tests.using.runs:Pairs"}, "batch_size": 8}
    run = trained(tmp_path, "pairs", {**SMALL, "model": {"target": "tests.using.runs:Sum"}, "data": data})
    done = ostinato(tmp_path, "predict", "runs/pairs", "x.txt")
    assert done.returncode == 4
    assert "neither pictures nor texts nor numbers" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    with pytest.raises(TrainingError, match="neither pictures nor texts"):
        Predictor(run.path)


def test_a_run_without_its_note_is_asked_by_its_data(digits: RunDir, predictor: Predictor, tmp_path: Path) -> None:
    shutil.copytree(digits.path, tmp_path / "digits")
    (tmp_path / "digits" / "inputs.json").unlink()
    assert Predictor(tmp_path / "digits").inputs == predictor.inputs
    assert json.loads(digits.inputs.read_text())["classes"] == [str(digit) for digit in range(10)]
    assert DIGITS["data"]["test"]["target"] == "digits"
