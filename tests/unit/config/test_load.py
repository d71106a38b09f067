from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.broken_configs import GOOD
from tests.support.option_table import PAGE, START, table
from trainer.config.explain import options
from trainer.config.load import config_hash, differences, dump, json_schema, load
from trainer.config.schema import Config
from trainer.config.strict_yaml import parse
from trainer.config.targets import check_targets
from trainer.registry import SHORT, resolve


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.yaml"
    path.write_text(GOOD)
    return path


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3e-4", 3e-4),
        ("1E3", 1000.0),
        (".5", 0.5),
        ("-7", -7),
        ("0x1F", 31),
        ("0o10", 8),
        ("-.inf", float("-inf")),
        ("no", "no"),
        ("On", "On"),
        ("True", True),
        ("false", False),
        ("~", None),
        ("NULL", None),
        ("12:30:45", "12:30:45"),
        ("1_000", "1_000"),
        ("2024-01-01", "2024-01-01"),
        ("0.10.1", "0.10.1"),
        ("inf", "inf"),
        ("=", "="),
        ("'1'", "1"),
        ('"null"', "null"),
        ("[1, [a, 2.0], {b: no}]", [1, ["a", 2.0], {"b": "no"}]),
    ],
)
def test_scalars_are_read_as_people_expect(text: str, value: Any) -> None:
    read = parse(text).value
    assert read == value
    assert type(read) is type(value)


def test_a_file_and_its_origins(good: Path) -> None:
    loaded = load(good, ["train.epochs=5", "loss.label_smoothing=0.1"])
    assert loaded.config.run.name == "good"
    assert loaded.config.optimizer.arguments == {"lr": 0.1}
    assert loaded.origin(("data", "batch_size")) == f"{good}:6"
    assert loaded.origin(("data", "drop_last")) == f"{good}:3"
    assert loaded.origin(("hardware", "device")) == f"{good}:1"
    assert loaded.origin(("train", "epochs")) == "command line: train.epochs=5"
    assert loaded.origin(("loss", "target")) == "command line: loss.label_smoothing=0.1"


def test_overrides_reach_everywhere(good: Path) -> None:
    config = load(
        good,
        [
            "train.epochs=3",
            "train.epochs=4",
            "loss.label_smoothing=0.1",
            "data.train_transforms=[{target: RandomCrop, size: 8}, {target: a:b}]",
            "data.train_transforms.0.size=4",
            "optimizer.extra.deep.key=[1e-3, no]",
            "train.early_stop.patience=3",
            "data.test={target: digits, split: test}",
        ],
    ).config
    assert config.train.epochs == 4
    assert config.loss.target == "cross_entropy"
    assert config.loss.arguments == {"label_smoothing": 0.1}
    assert config.data.train_transforms[0].arguments == {"size": 4}
    assert config.optimizer.arguments["extra"] == {"deep": {"key": [1e-3, "no"]}}
    assert config.train.early_stop is not None
    assert config.data.test is not None


def test_an_override_can_mend_the_file(good: Path) -> None:
    good.write_text(GOOD.replace("epochs: 2", "epochs: 02"))
    assert load(good, ["train.epochs=2"]).config.train.epochs == 2


def test_a_dump_is_read_back_to_an_equal_config(good: Path, tmp_path: Path) -> None:
    config = load(good, ["optimizer.words=['1e-3', '010', 'no', '08', '~', '<<', '0o7', 'é', \"a\\n\"]", "optimizer.lr=1e-5"]).config
    copy = tmp_path / "copy.yaml"
    copy.write_text(dump(config))
    again = load(copy).config
    assert again == config
    assert again.optimizer.arguments["words"][0] == "1e-3"
    assert dump(again) == dump(config)


def test_a_whole_number_may_stand_for_any_number(good: Path) -> None:
    assert load(good, ["train.clip.norm=1"]).config.train.clip.norm == 1.0


@pytest.mark.parametrize(
    "override", ["run.name=x", "log.every_steps=1", "checkpoint.keep_last=9", "data.loader_workers=2", "hardware.collective_timeout_s=900"]
)
def test_what_changes_no_arithmetic_changes_no_hash(good: Path, override: str) -> None:
    old, new = load(good).config, load(good, [override]).config
    assert config_hash(old) == config_hash(new)
    assert differences(old, new) == []


def test_differences_name_the_key_and_both_values(good: Path) -> None:
    old, new = load(good).config, load(good, ["train.epochs=3", "optimizer.momentum=0.9", "data.valid=null", "train.amp=bf16"]).config
    assert config_hash(old) != config_hash(new)
    assert differences(old, new) == [
        "data.valid.target: digits -> not set",
        "data.valid.split: valid -> not set",
        "train.epochs: 2 -> 3",
        "train.amp: none -> bf16",
        "data.valid: not set -> null",
        "optimizer.momentum: not set -> 0.9",
    ]


def test_the_schema_for_editors_knows_every_section_and_its_meaning() -> None:
    schema = json_schema()
    assert set(schema["properties"]) == set(Config.model_fields)
    assert schema["$defs"]["DataSection"]["properties"]["batch_size"]["description"]


def test_every_option_has_a_meaning() -> None:
    undocumented = [name for name, node in options() if not node.get("description") and "$ref" not in node and "anyOf" not in node]
    assert undocumented == []


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in SHORT.items() for name in names])
def test_every_short_name_names_something(kind: str, name: str) -> None:
    assert callable(resolve(kind, name))


@pytest.mark.parametrize(
    ("kind", "name", "found"),
    [
        ("optimizer", "AdamW", "AdamW"),
        ("optimizer", "nadam", "NAdam"),
        ("loss", "nll", "NLLLoss"),
        ("loss", "BCEWithLogitsLoss", "BCEWithLogitsLoss"),
        ("schedule", "StepLR", "StepLR"),
        ("transform", "random_crop", "RandomCrop"),
        ("dataset", "SVHN", "SVHN"),
        ("model", "vgg11", "vgg11"),
        ("model", "torch.nn:Linear", "Linear"),
    ],
)
def test_other_names_are_found_where_the_library_keeps_them(kind: str, name: str, found: str) -> None:
    assert resolve(kind, name).__name__ == found  # type: ignore[attr-defined]


def test_a_user_s_own_targets_are_checked_like_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, good: Path) -> None:
    (tmp_path / "my_targets.py").write_text(
        "from __future__ import annotations\n"
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self, width: int, names: list[str] | None = None, flag=False): super().__init__()\n"
        "def warm(step, total_steps, steps_per_epoch, *, speed: float = 1.0): return speed\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    check_targets(load(good, ["model={target: 'my_targets:Net', width: 3, names: [a]}", "schedule={target: 'my_targets:warm', speed: 2}"]))
    for wrong in ("width: 3.5", "width: 3, names: [1]", "width: 3, flag: no", "width: 3, hight: 4", "names: null"):
        with pytest.raises(Exception, match="command line: model="):
            check_targets(load(good, [f"model={{target: 'my_targets:Net', {wrong}}}"]))


def test_the_page_about_the_config_lists_every_option_as_it_is() -> None:
    assert PAGE.read_text(encoding="utf-8").endswith(START + table()), "run python -m tests.support.option_table"


def test_the_page_s_example_is_a_good_config(tmp_path: Path) -> None:
    example = PAGE.read_text(encoding="utf-8").split("```yaml\n")[1].split("```")[0]
    (tmp_path / "a.yaml").write_text(example)
    check_targets(load(tmp_path / "a.yaml"))
