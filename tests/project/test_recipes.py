"""Every YAML block and every class on the pages of recipes is trained, two steps each, as a reader would use it."""

from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.exact import go_on
from tests.support.image_files import write_folder
from tests.support.jobs import ROOT
from tests.support.ranks import run_ranks
from trainer.config.load import load
from trainer.config.resolved import to_yaml
from trainer.config.strict_yaml import parse
from trainer.config.targets import check_targets

RECIPES, EXTENDING = ((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("recipes.md", "extending.md"))
TWO_STEPS = ("train.max_steps=2", "hardware.device=cpu", "hardware.threads=1", "log.tensorboard=false")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE)


def first_line(block: str) -> str:
    line = block.partition("\n")[0]
    assert line.startswith("# "), f"a block must say which config it belongs to:\n{block}"
    return line[2:]


def values(text: str) -> dict[str, Any]:
    document = parse(text)
    assert isinstance(document.value, dict)
    return document.value


def merged(below: Any, above: Any) -> Any:
    """Section by section; a target replaces the one below as a whole."""
    if not isinstance(below, dict) or not isinstance(above, dict) or "target" in above:
        return above
    return {**below, **{key: merged(below.get(key), value) for key, value in above.items()}}


BLOCKS = blocks(RECIPES, "yaml")
BASES = {first_line(block).removeprefix("this is "): values(block) for block in BLOCKS if first_line(block).startswith("this is ")}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files that the recipes speak of, in the current folder."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    for part in ("train", "val"):
        write_folder(tmp_path / "photos" / part, per_class=10, size=(40, 36))
    inputs = generator.normal(size=(60, 6)).astype(np.float32)
    np.savez(tmp_path / "arrays.npz", inputs=inputs, targets=generator.integers(0, 3, 60))
    np.savez(tmp_path / "tags.npz", inputs=inputs, targets=(inputs[:, :3] > 0).astype(np.float32))
    pictures = generator.normal(size=(16, 3, 32, 32)).astype(np.float32)
    np.savez(tmp_path / "features.npz", inputs=pictures, targets=np.zeros((16, 512, 1, 1), dtype=np.float32))
    rows = [f"{a:.3f},{b:.3f},{c:.3f},{a + 2 * b - c:.3f}" for a, b, c in inputs[:, :3]]
    (tmp_path / "table.csv").write_text("\n".join(["size,rooms,age,price", *rows]) + "\n")
    words = {"good": "fine bright kind warm clear calm sweet", "bad": "dull grey cold harsh loud sour bitter"}
    texts = [f"{' '.join(generator.permutation(words[label].split()))},{label}" for label in ("good", "bad") for _ in range(30)]
    (tmp_path / "texts.csv").write_text("\n".join(["text,label", *texts]) + "\n")
    return tmp_path


@pytest.fixture
def weights(files: Path) -> None:
    """The weights of a ResNet-18 for 1,000 classes, by the name that the recipes use."""
    run_ranks(_write_weights, 1)


def _write_weights() -> None:
    import torch

    from trainer.models.resnet import resnet18

    torch.save(resnet18(num_classes=1000).state_dict(), "resnet18.pt")


def trained(config: dict[str, Any], folder: Path) -> None:
    """Check a config as the command line does, and train two steps."""
    (folder / "recipe.yaml").write_text(to_yaml(config))
    ranks = [] if "virtual_ranks" in config["train"] else ["train.virtual_ranks=1"]
    result = run_ranks(_train, 1, [*TWO_STEPS, *ranks], str(folder / "run"))[0]
    assert result.finished
    assert result.step == 2


def _train(overrides: list[str], folder: str) -> Any:
    sys.path.insert(0, ".")  # as the command line does
    loaded = load("recipe.yaml", overrides)
    check_targets(loaded)
    return go_on(loaded.config, folder, 10**9)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: re.sub(r"\W+", " ", block)[:60].strip())
def test_a_recipe_can_be_trained(block: str, files: Path, request: pytest.FixtureRequest) -> None:
    if "resnet18.pt" in block:
        request.getfixturevalue("weights")
    name = first_line(block)
    config = values(block)
    if not name.startswith("this is "):
        config = merged(BASES[name], config)
        changed = "the defaults" not in block and config == BASES[name]
        assert not changed, "the recipe changes nothing"
    trained(config, files)


def test_there_are_recipes_for_everything_that_scripts_do() -> None:
    assert len(BLOCKS) > 45
    assert set(BASES) == {"digits", "photos", "table", "tags", "texts"}
    prose = (
        "seed deterministic split stratif workers transforms freeze decay clip accumulation autocast warm-up plateau EarlyStop early_stop"
    )
    for word in f"{prose} ema swa smoothing weight mixup tensorboard resume pretrained DistributedDataParallel summary regression".split():
        assert word.lower() in RECIPES.lower() or word == "EarlyStop", word


CLASSES = blocks(EXTENDING, "python")
OWN = blocks(EXTENDING, "yaml")


@pytest.mark.parametrize("block", OWN, ids=lambda block: re.sub(r"\W+", " ", block)[:60].strip())
def test_what_one_writes_oneself_can_be_trained(block: str, files: Path) -> None:
    (files / "mine.py").write_text("\n\n".join(textwrap.dedent(code) for code in CLASSES))
    trained(merged(BASES[first_line(block)], values(block)), files)


def test_each_example_is_short_and_used() -> None:
    names = [name for code in CLASSES for name in re.findall(r"^(?:class|def) (\w+)", code, flags=re.MULTILINE)]
    assert len(names) >= 6
    assert all(any(f"mine:{name}" in block for block in OWN) for name in names), names
    assert all(len(code.strip().splitlines()) <= 22 for code in CLASSES)
