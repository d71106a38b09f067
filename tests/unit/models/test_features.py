"""A model that gives what inner layers give, and computes no more than it must."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from trainer.errors import ConfigError
from trainer.models import resnet
from trainer.models.features import FeatureExtractor, features
from trainer.models.shape import recompute


def extractor(*layers: str) -> FeatureExtractor:
    torch.manual_seed(0)
    found = features({"target": "resnet18", "num_classes": 10, "stem": "cifar"}, list(layers))
    assert isinstance(found, FeatureExtractor)
    return found.eval()


IMAGES = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_several_layers_give_a_dict_of_what_torchvisions_own_extractor_gives() -> None:
    from torchvision.models.feature_extraction import create_feature_extractor

    mine = extractor("layer3", "avgpool")
    theirs = create_feature_extractor(mine.model, ["layer3", "avgpool"])(IMAGES)
    found = mine(IMAGES)
    assert list(found) == ["layer3", "avgpool"]
    assert all(torch.equal(found[name], theirs[name]) for name in found)
    assert [value.shape for value in found.values()] == [(2, 256, 4, 4), (2, 512, 1, 1)]


def test_one_layer_gives_its_tensor() -> None:
    assert extractor("layer2")(IMAGES).shape == (2, 128, 8, 8)


def test_what_comes_after_the_last_layer_is_not_computed() -> None:
    model = extractor("layer2")
    called: list[str] = []
    for name in ("layer1", "layer3", "fc"):
        model.model.get_submodule(name).register_forward_hook(lambda *_, name=name: called.append(name))
    model(IMAGES)
    assert called == ["layer1"]


def test_it_trains_what_comes_before_also_with_recomputed_layers() -> None:
    plain, saving = extractor("layer2").train(), extractor("layer2").train()
    recompute(saving, ["model.layer1.*", "model.layer2"])
    for model in (plain, saving):
        model(IMAGES).square().mean().backward()
    gradients = [{name: p.grad for name, p in model.named_parameters() if p.grad is not None} for model in (plain, saving)]
    assert "model.conv1.weight" in gradients[0]
    assert "model.layer3.0.conv1.weight" not in gradients[0]
    assert gradients[0].keys() == gradients[1].keys()
    assert all(torch.equal(gradients[0][name], gradients[1][name]) for name in gradients[0])


def test_a_copy_gives_its_own_outputs() -> None:
    model = extractor("layer1")
    twin = copy.deepcopy(model)
    nn.init.zeros_(twin.model.get_parameter("conv1.weight"))
    assert not torch.equal(model(IMAGES), twin(IMAGES))
    assert torch.equal(twin(IMAGES), twin(2 * IMAGES))


def test_stars_name_several_layers_in_the_models_order() -> None:
    assert FeatureExtractor(resnet.resnet18(), ["fc", "layer[34]"]).layers == ["fc", "layer3", "layer4"]


@pytest.mark.parametrize(
    ("of", "layers", "message"),
    [
        ({"target": "resnet18"}, ["layr3"], r"^model\.layers: 'layr3' is the name of no module \(did you mean 'layer3'\?\)$"),
        ({"target": "resnet18"}, [], r"^model\.layers: it names no layer"),
        ({"target": "resnet18", "stemm": "cifar"}, ["fc"], r"^model\.of resnet18: .*stemm"),
        ({"target": "resnet19"}, ["fc"], r"there is no model 'resnet19'"),
        ("resnet18", ["fc"], r"^model\.of: must be a mapping with a target"),
    ],
)
def test_what_cannot_be_had_is_one_line(of: Any, layers: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        features(of, layers)


def test_a_layer_that_is_not_used_is_named() -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.Identity(), nn.Identity()

        def forward(self, x: Any) -> Any:
            return self.used(x)

    with pytest.raises(ConfigError, match=r"^model\.layers: idle took no part"):
        FeatureExtractor(Idle(), ["used", "idle"])(IMAGES)
