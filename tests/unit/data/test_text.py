"""Text as data: bags of words whose vocabulary knows the training part only, and windows of characters."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import CountVectorizer

from trainer.data.characters import CharText
from trainer.data.loader import TrainLoader
from trainer.data.order import BatchPlan
from trainer.data.splits import class_labels, split_indices
from trainer.data.text import BagOfWords, most_frequent
from trainer.errors import TrainingError


def reviews(path: Path, count: int = 60) -> str:
    """Texts with a word of their own each (``only17``), two words of their class, and a comma, quotes or a line's end here and there."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "text", "label"])
        for i in range(count):
            words = "Good, really good" if i % 3 else 'a "bad" and\nawful'
            rows.writerow([i, f"{words} film only{i} été", "praise" if i % 3 else "blame"])
    return str(path)


def own_words(bag: BagOfWords) -> set[str]:
    return {word for word in bag.vocabulary if word.startswith("only")}


def test_the_vocabulary_is_that_of_the_training_part_alone(tmp_path: Path) -> None:
    path = reviews(tmp_path / "r.csv")
    parts = {split: BagOfWords(path, split=split) for split in ("train", "valid", "test")}  # type: ignore[arg-type]
    assert {split: len(part) for split, part in parts.items()} == {"train": 48, "valid": 6, "test": 6}
    assert len(own_words(parts["train"])) == 48
    assert parts["valid"].vocabulary == parts["test"].vocabulary == parts["train"].vocabulary
    place = [number for number, word in enumerate(parts["train"].vocabulary) if word.startswith("only")]
    assert float(parts["train"].get_batch(np.arange(48))[0][:, place].sum()) == 48
    for name in ("valid", "test"):
        assert float(parts[name].get_batch(np.arange(6))[0][:, place].sum()) == 0


def test_the_numbers_are_scikit_learns(tmp_path: Path) -> None:
    path = reviews(tmp_path / "r.csv")
    bag = BagOfWords(path, split="all")
    with open(path, newline="", encoding="utf-8") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    theirs = CountVectorizer().fit(texts)
    assert bag.vocabulary == theirs.get_feature_names_out().tolist()
    inputs, targets = bag.get_batch(np.arange(60))
    assert np.array_equal(inputs.numpy(), theirs.transform(texts).toarray())
    assert (inputs.dtype, targets.dtype) == (torch.float32, torch.int64)
    assert bag.classes == ["blame", "praise"]
    assert targets.tolist() == [int(i % 3 > 0) for i in range(60)]
    assert inputs[1][bag.vocabulary.index("good")] == 2
    assert torch.equal(bag[7][0], inputs[7])


def test_the_parts_share_no_text_and_each_has_its_share_of_each_class(tmp_path: Path) -> None:
    path = reviews(tmp_path / "r.csv")
    parts = [BagOfWords(path, split=split, vocabulary=path) for split in ("train", "valid", "test")]  # type: ignore[arg-type]
    read = [own for part in parts for own in _own(part)]
    assert sorted(read) == sorted(f"only{i}" for i in range(60))
    assert [int((part.targets == 0).sum()) for part in parts] == [16, 2, 2]
    other = BagOfWords(path, split="test", vocabulary=path, seed=1)
    assert _own(other) != _own(parts[2])
    assert _own(BagOfWords(path, split="test", vocabulary=path, valid_fraction=0.3)) == _own(parts[2])
    assert len(BagOfWords(path, split="valid", valid_fraction=0.25, test_fraction=0)) == 15


def _own(bag: BagOfWords) -> list[str]:
    rows = bag.get_batch(np.arange(len(bag)))[0]
    return [next(bag.vocabulary[i] for i in row.nonzero().reshape(-1).tolist() if bag.vocabulary[i].startswith("only")) for row in rows]


def test_the_most_frequent_words_stay_and_of_equals_the_first() -> None:
    assert most_frequent(["cc bb aa", "cc dd bb", "cc"], 3, "x") == ["aa", "bb", "cc"]
    assert most_frequent(["cc bb aa", "cc dd bb", "cc"], None, "x") == ["aa", "bb", "cc", "dd"]


def test_only_so_many_words_are_kept(tmp_path: Path) -> None:
    bag = BagOfWords(reviews(tmp_path / "r.csv"), max_features=3)
    assert bag.vocabulary == ["film", "good", "été"]
    assert bag[0][0].shape == (3,)


def test_a_saved_vocabulary_gives_the_same_numbers_to_other_files(tmp_path: Path) -> None:
    path = reviews(tmp_path / "r.csv")
    bag = BagOfWords(path, split="train", max_features=9)
    bag.save(tmp_path / "v.json")
    assert json.loads((tmp_path / "v.json").read_text())["classes"] == ["blame", "praise"]
    (tmp_path / "new.csv").write_text("text,label\nfilm Film unheard,praise\n")
    new = BagOfWords(str(tmp_path / "new.csv"), split="all", vocabulary=str(tmp_path / "v.json"))
    assert new.vocabulary == bag.vocabulary
    assert new.targets.tolist() == [1]
    assert {word: float(new[0][0][place]) for place, word in enumerate(new.vocabulary) if new[0][0][place]} == {"film": 2}
    same = BagOfWords(str(tmp_path / "new.csv"), split="all", vocabulary=path, max_features=9)
    assert len(same.vocabulary) == 9
    assert same.classes == bag.classes


def test_bags_are_read_a_whole_micro_batch_at_a_time_here_and_in_loader_workers(tmp_path: Path) -> None:
    bag = BagOfWords(reviews(tmp_path / "r.csv"), split="all")
    plan = BatchPlan(60, 12, 1, seed=5)
    here, there = ([step[0] for step in TrainLoader(bag, plan, loader_workers=workers).epoch(0)] for workers in (0, 2))
    assert torch.equal(here[1][0], bag.get_batch(plan.batch(0, 1))[0])
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(here, there, strict=True))


@pytest.mark.parametrize(
    ("text", "arguments", "said"),
    [
        ("text,label\nhello world,1\n", {"text": "review"}, "r.csv:1: there is no column 'review'"),
        ("text,label\n" + "a b,1\n" * 20, {}, "its texts hold no words"),
        ("text,label\nhello world,1\n", {}, "test_fraction: a share of 0.1 of 1 samples leaves a part empty"),
        ("text,label\n" + "hello,1\n" * 9, {"valid_fraction": 0.6, "test_fraction": 0.5}, "leaves no training part"),
        ("text,label\nhello world,1\n", {"split": "dev"}, "there is no split 'dev'; use train, valid, test or all"),
        ("text,label\nhello world,x\n", {"split": "all", "vocabulary": "v.json"}, "column 'label': 'x' is none of the classes"),
        ("text,label\nhello world,x\n", {"split": "all", "vocabulary": "none.json"}, "none.json: cannot be read"),
        ("text,label\nhello world,x\n", {"split": "all", "vocabulary": "odd.json"}, "odd.json: no vocabulary that a run has saved"),
    ],
)
def test_a_mistake_about_texts_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, arguments: dict[str, object], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("r.csv").write_text(text)
    Path("v.json").write_text('{"vocabulary": ["hello"], "classes": ["y", "z"]}')
    Path("odd.json").write_text("[1]")
    with pytest.raises(TrainingError) as caught:
        BagOfWords("r.csv", **arguments)  # type: ignore[arg-type]
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


POEM = "Wer reitet so spät durch Nacht und Wind?\n" * 20


def test_a_window_is_followed_by_itself_one_character_later(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text(POEM, encoding="utf-8")
    text = CharText(str(tmp_path / "p.txt"), length=16)
    assert text.classes == sorted(set(POEM))
    inputs, targets = text[1]
    assert (inputs.dtype, inputs.shape, targets.shape) == (torch.int64, (16,), (16,))
    assert text.decode(inputs) == POEM[16:32]
    assert text.decode(targets) == POEM[17:33]
    batch = text.get_batch(np.array([4, 1]))
    assert torch.equal(batch[0][1], inputs)
    assert torch.equal(batch[1][1], targets)


def test_the_parts_of_a_text_lie_one_after_the_other(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text(POEM, encoding="utf-8")
    parts = [CharText(str(tmp_path / "p.txt"), 8, split, 0.2, 0.1) for split in ("train", "valid", "test")]  # type: ignore[arg-type]
    assert "".join(part.decode(part.text) for part in parts) == POEM
    assert [len(part.text) for part in parts] == [574, 164, 82]
    assert parts[0].classes == parts[1].classes == parts[2].classes
    for part in parts:
        inputs, targets = part.get_batch(np.arange(len(part)))
        assert part.decode(inputs.reshape(-1)) == part.decode(part.text)[: inputs.numel()]  # each character once
        assert targets[-1][-1] == part.text[inputs.numel()]
    close = CharText(str(tmp_path / "p.txt"), 8, "train", 0.2, 0.1, stride=3)
    assert close.decode(close[5][0]) == POEM[15:23]
    assert close.decode(close[len(close) - 1][1]) in POEM[:574]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"length": 2000}, "its train part has 738 characters, and a window needs 2001"),
        ({"split": "test"}, "its test part has 0 characters"),
        ({"split": "dev"}, "there is no split 'dev'"),
        ({"length": 0}, "must be at least 1"),
        ({"valid_fraction": 0.7, "test_fraction": 0.3}, "leave no training part"),
        ({"path": "none.txt"}, "none.txt: cannot be read"),
        ({"path": "latin.txt"}, "latin.txt: not UTF-8 text at byte 2"),
    ],
)
def test_a_mistake_about_windows_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, object], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("p.txt").write_text(POEM, encoding="utf-8")
    Path("latin.txt").write_bytes("größe".encode("latin-1"))
    with pytest.raises(TrainingError, match=said) as caught:
        CharText(**{"path": "p.txt", **arguments})  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_a_bag_can_be_split_by_class(tmp_path: Path) -> None:
    bag = BagOfWords(reviews(tmp_path / "r.csv"), split="all")
    assert np.bincount(class_labels(bag)[split_indices(class_labels(bag), 0.5, 0)[1]]).tolist() == [10, 20]
