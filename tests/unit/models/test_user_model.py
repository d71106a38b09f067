"""Each option acts on a model that is somebody else's, named by its path."""

from __future__ import annotations

import copy
from pathlib import Path

import torch

from tests.unit.models.training import copies, images, moved, train
from tests.unit.models.user_model import Theirs
from trainer.config.schema import FreezeRule, GroupRule, InitRule, StartSection, Target, TrainSection
from trainer.models.features import features
from trainer.models.frozen import Frozen
from trainer.models.groups import parameter_groups
from trainer.models.shape import shape_up
from trainer.models.start import apply_start
from trainer.models.summary import summarize
from trainer.optim.averaging import Swa
from trainer.registry import resolve

PATH = "tests.unit.models.user_model:Theirs"


def theirs(seed: int = 0) -> Theirs:
    torch.manual_seed(seed)
    found = resolve("model", PATH)(**Target.model_validate({"target": PATH, "width": 6}).arguments)
    assert isinstance(found, Theirs)
    return found


def test_initialisers() -> None:
    model = theirs()
    apply_start(model, StartSection(init=[InitRule.model_validate({"target": "constant", "match": ["norms", "head"], "val": 0.5})]))
    assert all((model.get_parameter(name) == 0.5).all() for name in ("stem.1.weight", "norm.gain", "exit.weight", "exit.bias"))


def test_pretrained_weights_with_a_new_head(tmp_path: Path) -> None:
    source, model = theirs(), theirs(seed=1)
    torch.save({"state_dict": source.state_dict()}, tmp_path / "theirs.pth")
    apply_start(model, StartSection(pretrained=str(tmp_path / "theirs.pth"), skip="head"))
    assert moved(model, copies(source)) == {"exit.weight", "exit.bias"}


def test_freezing_and_groups() -> None:
    model = theirs()
    frozen = Frozen(model, [FreezeRule(match="*", but=["head", "norm.*"])])
    groups = parameter_groups(model, [GroupRule(match="norms", weight_decay=0.0, lr=1e-3)], frozen.for_ever)
    frozen.apply(0)
    before = copies(model)
    train(model, torch.optim.AdamW(groups, lr=0.1), frozen=frozen)
    assert moved(model, before) == {"norm.gain", "exit.weight", "exit.bias"}
    assert (model.norm.gain - before["norm.gain"]).abs().max() < 0.01 < (model.exit.bias - before["exit.bias"]).abs().max()


def test_averaging() -> None:
    model = theirs()
    swa = Swa(model)
    swa.update(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = copies(model)
    train(model, optimizer)
    swa.update(model)
    swa.refresh(model, [images(5)])
    after = copies(model)
    with swa.swapped_in(model):
        torch.testing.assert_close(model.exit.bias, (before["exit.bias"] + after["exit.bias"]) / 2)
        assert not torch.equal(model.get_buffer("stem.1.running_mean"), after["stem.1.running_mean"])


def test_recomputing_and_memory_format() -> None:
    plain, shaped = theirs(), theirs()
    shape_up(shaped, TrainSection(epochs=1, recompute=["stem", "drop"]), torch.device("cpu"))
    for model in (plain, shaped):
        train(model, torch.optim.SGD(model.parameters(), lr=0.1))
    assert moved(shaped, copies(plain)) == set()
    fast = shape_up(theirs(), TrainSection(epochs=1, channels_last=True), torch.device("cpu"))
    torch.testing.assert_close(fast.eval()(images()), theirs().eval()(images()))


def test_features() -> None:
    model = features({"target": PATH, "width": 5}, ["stem", "norm"]).eval()
    assert {name: value.shape for name, value in model(images()).items()} == {"stem": (8, 5, 8, 8), "norm": (8, 5)}


def test_summary() -> None:
    model = theirs()
    found = summarize(model, images())
    assert found.parameters == sum(p.numel() for p in model.parameters())
    assert found.output == [8, 3]
    assert {layer.name for layer in found.layers} == {name for name, _ in model.named_modules() if name}


def test_nothing_of_it_is_needed() -> None:
    model = theirs()
    twin = copy.deepcopy(model)
    apply_start(model, StartSection())
    frozen = Frozen(model, [])
    frozen.apply(0)
    shape_up(model, TrainSection(epochs=1), torch.device("cpu"))
    for each in (model, twin):
        train(each, torch.optim.SGD(parameter_groups(each, []), lr=0.1))
    assert moved(model, copies(twin)) == set()
