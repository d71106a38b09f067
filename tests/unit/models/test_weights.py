"""First weights from torchvision, as its downloads lie in the cache, and from runs."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.unit.models.training import cnn, copies, moved, same, train
from tests.unit.models.user_model import Theirs
from trainer.checkpoint import store
from trainer.config.schema import StartSection
from trainer.errors import ConfigError
from trainer.models import resnet, zoo
from trainer.models.features import FeatureExtractor
from trainer.models.start import apply_start
from trainer.optim.averaging import Swa
from trainer.optim.ema import Ema
from trainer.rundir import RunDir
from trainer.vision import import_torchvision


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of downloads, and no network."""
    for variable in ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


def downloaded(cache: Path, name: str, state: Any, weights: str = "DEFAULT") -> None:
    url = import_torchvision().models.get_model_weights(name)[weights].url
    torch.save(state, cache / url.rpartition("/")[2])


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("shufflenet_v2_x0_5", "fc"),
        ("squeezenet1_1", "classifier.1"),
        ("mnasnet0_5", "classifier.1"),
        ("mobilenet_v3_small", "classifier.3"),
    ],
)
def test_torchvisions_weights_of_1000_classes_are_loaded_but_for_the_head(name: str, head: str, cache: Path) -> None:
    source, model = getattr(zoo, name)(), getattr(zoo, name)(num_classes=5)
    downloaded(cache, name, source.state_dict())
    fresh = {key: value for key, value in copies(model).items() if key.startswith(f"{head}.")}
    lines = apply_start(model, StartSection(pretrained="DEFAULT"))
    found = model.state_dict()
    for key, value in source.state_dict().items():
        assert torch.equal(found[key], fresh.get(key, value)), key
    assert f"{head}.weight, {head}.bias" in lines[1]
    whole = getattr(zoo, name)()
    apply_start(whole, StartSection(pretrained="IMAGENET1K_V1"))
    assert same(whole, source)


def test_a_full_name_of_weights_needs_no_name_of_the_model(cache: Path) -> None:
    source = zoo.shufflenet_v2_x0_5()
    downloaded(cache, "shufflenet_v2_x0_5", source.state_dict())
    model = import_torchvision().models.ShuffleNetV2([4, 8, 4], [24, 48, 96, 192, 1024])
    apply_start(model, StartSection(pretrained="ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1"))
    assert same(model, source)


def test_densenets_old_names_are_understood(cache: Path) -> None:
    source = zoo.densenet121()
    old = OrderedDict((re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)", r"\1.\2", key), value) for key, value in source.state_dict().items())
    assert old.keys() != source.state_dict().keys()
    downloaded(cache, "densenet121", old)
    model = zoo.densenet121()
    apply_start(model, StartSection(pretrained="DEFAULT"))
    assert same(model, source)


def test_auxiliary_classifiers_are_left_out_and_other_inputs_are_asked_for(cache: Path) -> None:
    source = zoo.googlenet(aux_logits=True)
    downloaded(cache, "googlenet", source.state_dict())
    with pytest.raises(ConfigError, match=r"^model\.transform_input: .*write transform_input: true$"):
        apply_start(zoo.googlenet(num_classes=3), StartSection(pretrained="DEFAULT"))
    model = zoo.googlenet(num_classes=3, transform_input=True)
    apply_start(model, StartSection(pretrained="DEFAULT"))
    assert torch.equal(model.get_parameter("conv1.conv.weight"), source.get_parameter("conv1.conv.weight"))


def test_a_download_that_fails_names_the_file_and_what_to_do(cache: Path) -> None:
    with pytest.raises(ConfigError) as error:
        apply_start(resnet.resnet18(num_classes=10), StartSection(pretrained="IMAGENET1K_V1"))
    text = str(error.value)
    assert "\n" not in text
    assert text.startswith("start.pretrained: ResNet18_Weights.IMAGENET1K_V1: resnet18-f37072fd.pth cannot be fetched from https://")
    assert f"start.pretrained=path/resnet18-f37072fd.pth), or put it in {cache}" in text


@pytest.mark.parametrize(
    ("model", "name", "message"),
    [
        (zoo.squeezenet1_1, "IMAGENET1K_V2", r"nor the name of weights for squeezenet1_1 \(did you mean 'IMAGENET1K_V1'\?\)$"),
        (cnn, "DEFAULT", r"'DEFAULT' is no file or run folder, and the model is none of torchvision's"),
        (cnn, "ResNet18_Weights.NONE", r"torchvision has no weights 'ResNet18_Weights\.NONE', and there is no such file$"),
        (zoo.mnasnet0_75, "x", r"there are DEFAULT, IMAGENET1K_V1$"),
    ],
)
def test_a_name_that_is_no_weights_is_refused(model: Callable[[], nn.Module], name: str, message: str, cache: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        apply_start(model(), StartSection(pretrained=name))


def test_the_weights_of_a_feature_extractor_are_those_of_its_model(cache: Path) -> None:
    source = zoo.shufflenet_v2_x0_5()
    downloaded(cache, "shufflenet_v2_x0_5", source.state_dict())
    extractor = FeatureExtractor(zoo.shufflenet_v2_x0_5(num_classes=2), ["conv5"])
    apply_start(extractor, StartSection(pretrained="DEFAULT"))
    assert torch.equal(extractor.model.get_parameter("conv1.0.weight"), source.get_parameter("conv1.0.weight"))


def a_run(tmp_path: Path, states: dict[int, dict[str, Any]]) -> RunDir:
    run = RunDir(tmp_path / "run")
    run.create()
    run.config.write_text("seed: 0\n")
    for step, state in states.items():
        store.write(run.checkpoints, {"step": step, **state}, {})
    return run


def test_a_run_gives_its_best_checkpoints_weights(tmp_path: Path) -> None:
    best, last = cnn(seed=3), cnn(seed=4)
    run = a_run(tmp_path, {5: {"model": best.state_dict(), "ema": None}, 9: {"model": last.state_dict(), "ema": None}})
    model = cnn()
    assert "step-00000009" in apply_start(model, StartSection(pretrained=str(run.path)))[0]
    assert same(model, last)
    store.point(run.checkpoints, "best", "step-00000005")
    assert "step-00000005" in apply_start(model, StartSection(pretrained=str(run.path)))[0]
    assert same(model, best)


@pytest.mark.parametrize("kind", ["ema", "swa"])
def test_a_run_that_keeps_an_average_gives_the_average(kind: str, tmp_path: Path) -> None:
    """Also to a parameter that has two names, of which the average knows one."""
    torch.manual_seed(0)
    source, model = Theirs(), Theirs()
    average: Ema = Ema(source, decay=0.5) if kind == "ema" else Swa(source)
    optimizer = torch.optim.SGD(source.parameters(), lr=0.1)
    for step in range(2):
        train(source, optimizer, steps=1, seed=step)
        average.update(source)
    run = a_run(tmp_path, {5: {"model": source.state_dict(), kind: average.state_dict()}})
    assert "averaged weights" in apply_start(model, StartSection(pretrained=str(run.path)))[0]
    assert "mix.weight" in moved(model, copies(source))
    with average.swapped_in(source):
        assert same(model, source)


def test_an_average_that_has_not_begun_is_passed_over(tmp_path: Path) -> None:
    source = cnn(seed=3)
    run = a_run(tmp_path, {5: {"model": source.state_dict(), "ema": None, "swa": Swa(cnn(seed=4)).state_dict()}})
    model = cnn()
    apply_start(model, StartSection(pretrained=str(run.path)))
    assert same(model, source)


def test_a_run_without_a_good_checkpoint_and_a_folder_without_a_run_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no run here \(it has no config\.yaml\); name a run folder"):
        apply_start(cnn(), StartSection(pretrained=str(tmp_path)))
    run = a_run(tmp_path, {5: {"model": cnn().state_dict(), "ema": None}})
    store.point(run.checkpoints, "best", "step-00000005")
    file = run.checkpoints / "step-00000005" / store.STATE
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ConfigError, match=r"^start\.pretrained: .*state\.pt: \d+ bytes where the manifest says"):
        apply_start(cnn(), StartSection(pretrained=str(run.path)))
    (run.checkpoints / "best.json").unlink()
    with pytest.raises(ConfigError, match=r"this run has no checkpoint that can be used$"):
        apply_start(cnn(), StartSection(pretrained=str(run.path)))
