"""Every YAML block and every class on the pages of recipes is trained, two steps each, as a reader would use it."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.exact import go_on
from tests.support.image_files import write_folder
from tests.support.jobs import LIMIT_S, ROOT, environment, start
from tests.support.ranks import run_ranks
from trainer.config.load import load
from trainer.config.resolved import to_yaml
from trainer.config.strict_yaml import parse
from trainer.config.targets import check_targets
from trainer.errors import ConfigError

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
    if "sync_batchnorm" in block and not torch.cuda.is_available():
        (files / "recipe.yaml").write_text(to_yaml(config))
        check_targets(load("recipe.yaml"))
        with pytest.raises(ConfigError, match=r"train\.sync_batchnorm: it needs CUDA, and hardware\.device is cpu; leave it out"):
            load("recipe.yaml", list(TWO_STEPS))
        return
    if "compile" in block and shutil.which("g++") is None:
        pytest.skip("torch.compile needs a C++ compiler on the CPU")
    if "runs/first" in block:
        begun(files, "digits", "first")
    if "wandb" in block:
        pytest.importorskip("wandb", reason="an extra")
        begun(files, name, "logged", **values(block))
        assert list((files / "runs" / "logged" / "wandb").glob("offline-run-*"))
        return
    trained(config, files)


def begun(folder: Path, base: str, name: str, **more: Any) -> None:
    """Train two steps by the command, into ``runs/NAME``."""
    (folder / f"{name}.yaml").write_text(to_yaml(merged(BASES[base], more)))
    offline = {"WANDB_MODE": "offline", "HOME": str(folder)}
    process = start(folder, "train", f"{name}.yaml", *TWO_STEPS, **offline)
    _, error = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, error


def test_one_image_is_told_by_the_best_weights(files: Path) -> None:
    begun(files, "photos", "photos")
    (code,) = blocks(RECIPES, "python")
    assert lines_of(code) <= 10
    done = subprocess.run([sys.executable, "-c", code], cwd=files, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said, share = done.stdout.split()
    assert said in ("ants", "bees")
    assert 0.5 <= float(share) <= 1


def test_every_option_on_the_page_stands_in_a_block_that_is_tried() -> None:
    assert not re.findall(r"`\w+: *\{.*?\}`", RECIPES)


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
    found = {f"{part.name}": lines_of(ast.unparse(part)) for code in CLASSES for part in ast.parse(code).body if hasattr(part, "name")}
    assert all(count <= 10 for count in found.values()), found


def lines_of(code: str) -> int:
    """Lines of code: without imports, docstrings, comments and empty lines."""
    body = ast.parse(code)
    nodes = [node for node in ast.walk(body) if isinstance(node, ast.stmt) and not isinstance(node, ast.Import | ast.ImportFrom)]
    return len({node.lineno for node in nodes if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))})
