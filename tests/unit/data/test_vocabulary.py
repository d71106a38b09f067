"""The vocabulary of a job is that of its training part, in every split and in the run's folder."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import CountVectorizer

from tests.support.jobs import ROOT, ostinato
from trainer.build import build, datasets
from trainer.config.schema import Config
from trainer.config.strict_yaml import parse
from trainer.data import vocabulary
from trainer.data.characters import CharText
from trainer.data.text import BagOfWords
from trainer.distributed import World
from trainer.errors import TrainingError
from trainer.loop import try_out
from trainer.rundir import RunDir

Row = tuple[str, str]


def letters(path: Path, count: int, name: str, label: Callable[[int], str] = lambda i: "good" if i % 2 else "bad") -> list[Row]:
    """A table of texts with a word of their own each (``train17``), and a word of their class."""
    rows = [(f"{label(i)} letter {name}{i}", label(i)) for i in range(count)]
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return rows


def words(rows: list[Row]) -> list[str]:
    """scikit-learn's vocabulary of some texts."""
    found: list[str] = CountVectorizer().fit([text for text, _ in rows]).get_feature_names_out().tolist()
    return found


CONFIG = """\
model: {{target: mlp, in_features: {features}, hidden: [], num_classes: 2}}
data:
  train: {{target: bag_of_words, path: train.csv, split: all}}
  {rest}
  batch_size: 8
optimizer: {{target: sgd, lr: 0.1}}
train: {{epochs: 1}}
hardware: {{device: cpu, threads: 1}}
log: {{tensorboard: false}}
"""
OTHERS = "valid: {target: bag_of_words, path: valid.csv, split: all}\n  test: {target: bag_of_words, path: test.csv, split: all}"


def config(rest: str, features: int = 1, **changes: Any) -> Config:
    values: Any = parse(CONFIG.format(features=features, rest=rest)).value
    return Config.model_validate({**values, "data": {**values["data"], **changes}})


def test_a_run_keeps_the_vocabulary_of_its_training_part_alone(tmp_path: Path) -> None:
    rows = letters(tmp_path / "train.csv", 40, "train")
    letters(tmp_path / "valid.csv", 12, "valid")
    letters(tmp_path / "test.csv", 12, "test")
    (tmp_path / "words.yaml").write_text(CONFIG.format(features=len(words(rows)), rest=OTHERS))
    done = ostinato(tmp_path, "train", "words.yaml", "--nproc-per-node", "2")
    assert done.returncode == 0, done.stderr
    run = RunDir(tmp_path / "runs" / "words")
    assert json.loads(run.vocabulary.read_text()) == {"vocabulary": words(rows), "classes": ["bad", "good"]}
    assert not any(word.startswith(("valid", "test")) for word in json.loads(run.vocabulary.read_text())["vocabulary"])
    assert run.vocabulary.stat().st_mode & 0o777 == 0o600
    again = BagOfWords(str(tmp_path / "test.csv"), split="all", vocabulary=str(run.vocabulary))
    assert again.vocabulary == words(rows)


def test_a_run_of_other_data_has_no_vocabulary(tmp_path: Path) -> None:
    vocabulary.keep([(1, 2)], tmp_path / "vocabulary.json", resumed=False)
    assert not list(tmp_path.iterdir())


def test_other_files_are_counted_by_the_training_files_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = letters(tmp_path / "train.csv", 40, "train")
    others = {name: letters(tmp_path / f"{name}.csv", 12, name) for name in ("valid", "test")}
    theirs = CountVectorizer().fit([text for text, _ in rows])
    train, *found = datasets(config(OTHERS))
    assert train.vocabulary == theirs.get_feature_names_out().tolist()
    for split, table in zip(found, others.values(), strict=True):
        inputs, targets = split.get_batch(np.arange(12))
        assert np.array_equal(inputs.numpy(), theirs.transform([text for text, _ in table]).toarray())
        assert inputs.sum() == 24, "the two words that are in the training file as well"
        assert targets.tolist() == [i % 2 for i in range(12)]


def test_a_set_that_lacks_a_class_numbers_them_as_the_training_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = letters(tmp_path / "train.csv", 40, "train")
    letters(tmp_path / "valid.csv", 12, "valid", lambda i: "good")
    one = "valid: {target: bag_of_words, path: valid.csv, split: all}"
    job = build(config(one, len(words(rows))).model_copy(update={"train": virtual_ranks(1)}), World(0, 1, 0, 1, cpu()))
    assert job.valid is not None
    assert job.valid.get_batch(np.arange(12))[1].tolist() == [1] * 12
    letters(tmp_path / "valid.csv", 12, "valid", lambda i: "odd")
    with pytest.raises(TrainingError, match=r"valid\.csv: column 'label': 'odd' is none of the classes"):
        datasets(config(one))


def virtual_ranks(count: int) -> Any:
    return config("valid: null").train.model_copy(update={"virtual_ranks": count})


def cpu() -> Any:
    import torch

    return torch.device("cpu")


@pytest.mark.parametrize("stratified", [False, True])
def test_what_is_kept_for_validation_takes_no_part_in_the_vocabulary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stratified: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = letters(tmp_path / "train.csv", 40, "train")
    train, valid, _ = datasets(config("valid_fraction: 0.25", stratified=stratified))
    inside, kept = ([rows[i] for i in part.indices] for part in (train, valid))
    assert (len(inside), len(kept)) == (30, 10)
    theirs = CountVectorizer().fit([text for text, _ in inside])
    assert vocabulary.bearer(train).vocabulary == vocabulary.bearer(valid).vocabulary == words(inside)
    for part, table in ((train, inside), (valid, kept)):
        counted = part.get_batch(np.arange(len(table)))[0].numpy()
        assert np.array_equal(counted, theirs.transform([text for text, _ in table]).toarray())


def test_a_vocabulary_that_is_named_stays_and_another_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    letters(tmp_path / "train.csv", 40, "train")
    letters(tmp_path / "valid.csv", 12, "valid")
    (tmp_path / "mine.json").write_text('{"vocabulary": ["letter", "good"], "classes": ["bad", "good"]}')
    named = {"target": "bag_of_words", "path": "train.csv", "split": "all", "vocabulary": "mine.json"}
    train, valid, _ = datasets(config("valid_fraction: 0.25", train=named))
    assert vocabulary.bearer(train).vocabulary == vocabulary.bearer(valid).vocabulary == ["letter", "good"]
    other = {"target": "bag_of_words", "path": "valid.csv", "split": "all", "vocabulary": "mine.json"}
    with pytest.raises(TrainingError, match=r"^validation set BagOfWords: the vocabulary that it names is not the training set's; leave "):
        datasets(config("valid: null", valid=other))
    assert datasets(config("valid: null", train=named, valid=other))[1].vocabulary == ["letter", "good"]


def test_a_run_does_not_go_on_with_other_words(tmp_path: Path) -> None:
    letters(tmp_path / "train.csv", 40, "train")
    kept = tmp_path / "vocabulary.json"
    vocabulary.keep(BagOfWords(str(tmp_path / "train.csv"), split="all"), kept, resumed=False)
    before = kept.read_bytes()
    vocabulary.keep(BagOfWords(str(tmp_path / "train.csv"), split="all"), kept, resumed=True)
    letters(tmp_path / "train.csv", 40, "other")
    other = BagOfWords(str(tmp_path / "train.csv"), split="all")
    with pytest.raises(TrainingError, match=r"its vocabulary is no longer the one that the run began with .*; put the data back") as caught:
        vocabulary.keep(other, kept, resumed=True)
    assert "\n" not in str(caught.value)
    assert kept.read_bytes() == before
    vocabulary.keep(other, kept, resumed=False)
    assert kept.read_bytes() != before


class Spoken:
    """Anyone's data set with a vocabulary that no other can be put in place of."""

    def __init__(self, *vocabulary: str) -> None:
        self.vocabulary = list(vocabulary)

    def save(self, path: Path) -> None:
        path.write_text("\n".join(self.vocabulary))


def test_a_data_set_of_ones_own_keeps_its_vocabulary_as_well_and_two_that_differ_are_refused(tmp_path: Path) -> None:
    vocabulary.keep(Spoken("yes", "no"), tmp_path / "vocabulary.json", resumed=False)
    assert (tmp_path / "vocabulary.json").read_text() == "yes\nno"
    vocabulary.share(Spoken("yes", "no"), Spoken("yes", "no"), "test set")
    with pytest.raises(TrainingError, match=r"^test set Spoken: its vocabulary is not that of the training set Spoken; use the same"):
        vocabulary.share(Spoken("yes", "no"), Spoken("no", "yes"), "test set")


TALE = "the cat sat on the mat. " * 40
CHARACTERS = """\
model: {{target: "examples.char_lm:CharGRU", characters: {characters}, width: 8, layers: 1}}
task: {{target: "examples.char_lm:NextCharacter"}}
data:
  train: {{target: char_text, path: tale.txt, length: 8}}
  valid: {valid}
  batch_size: 8
optimizer: {{target: sgd, lr: 0.1}}
train: {{epochs: 1}}
hardware: {{device: cpu, threads: 1}}
log: {{tensorboard: false}}
"""
OTHER = "{target: char_text, path: other.txt, length: 8, split: train}"


def characters(valid: str = OTHER, count: int = 12) -> Config:
    return Config.model_validate(parse(CHARACTERS.format(characters=count, valid=valid)).value)


def test_another_text_is_numbered_as_the_training_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tale.txt").write_text(TALE)
    Path("other.txt").write_text("some toat sat " * 10)
    train, valid, _ = datasets(characters())
    assert valid.classes == train.classes == sorted(set(TALE))
    assert valid.decode(valid.get_batch(np.array([1]))[0][0]) == ("some toat sat " * 2)[8:16]


def test_a_character_that_the_training_text_lacks_is_named_with_the_option_that_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tale.txt").write_text(TALE)
    Path("other.txt").write_text("a quick zebra sat. " * 10)
    said = r"^other\.txt: char_text: 'b' and 6 more are not among the 11 characters of the vocabulary; name a text that has them all as voc"
    with pytest.raises(TrainingError, match=said):
        datasets(characters())
    Path("all.txt").write_text(TALE + Path("other.txt").read_text())
    both = {**parse(CHARACTERS.format(characters=20, valid=OTHER)).value["data"]}  # type: ignore[index]
    for split in ("train", "valid"):
        both[split] = {**both[split], "vocabulary": "all.txt"}
    train, valid, _ = datasets(characters().model_copy(update={"data": config("valid: null", **both).data}))
    assert train.vocabulary == valid.vocabulary == sorted(set(TALE + "a quick zebra sat. "))
    train.save("mine.json")
    again = CharText("other.txt", length=8, vocabulary="mine.json")
    assert torch.equal(again.text, valid.text)
    Path("words.json").write_text('{"vocabulary": ["one", "two"], "classes": ["a"]}')
    with pytest.raises(TrainingError, match=r"^words\.json: char_text: a vocabulary of words, not of characters"):
        CharText("tale.txt", vocabulary="words.json")


def test_a_run_keeps_its_characters_and_does_not_go_on_with_others(tmp_path: Path) -> None:
    (tmp_path / "tale.txt").write_text(TALE)
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "tale.yaml").write_text(CHARACTERS.format(characters=12, valid="null"))
    done = ostinato(tmp_path, "train", "tale.yaml", "train.max_steps=2")
    assert done.returncode == 0, done.stderr
    run = RunDir(tmp_path / "runs" / "tale")
    assert json.loads(run.vocabulary.read_text())["vocabulary"] == sorted(set(TALE))
    (tmp_path / "tale.txt").write_text(TALE.replace("c", "b"))
    with pytest.raises(TrainingError, match="its vocabulary is no longer the one that the run began with"):
        vocabulary.keep(CharText(str(tmp_path / "tale.txt"), length=8), run.vocabulary, resumed=True)


def test_more_characters_than_the_model_has_rows_for_are_said_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tale.txt").write_text("at" * 100 + TALE)  # the first windows hold two characters, that the model has
    job = build(characters("null", 9).model_copy(update={"train": virtual_ranks(1)}), World(0, 1, 0, 1, cpu()))
    said = r"^model: its layer embedding has 9 rows, and data set CharText has 11 different inputs \(0 … 10\); give the model 11 or more$"
    with pytest.raises(TrainingError, match=said):
        try_out(job)
    try_out(build(characters("null", 11).model_copy(update={"train": virtual_ranks(1)}), World(0, 1, 0, 1, cpu())))
