"""Every model of torchvision's by name, with as many outputs as asked for; and where its head is."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from tests.unit.models.empty import empty
from trainer.errors import ConfigError
from trainer.models import heads, resnet, zoo
from trainer.models.simple import CNN, MLP
from trainer.registry import resolve
from trainer.vision import import_torchvision

models = import_torchvision().models
VIDEO = models.list_models(module=models.video)
NAMES = models.list_models(module=models) + VIDEO
SIZES = {"inception_v3": 299}
AUXILIARY = {"inception_v3": ["AuxLogits.fc"], "googlenet": ["aux1.fc2", "aux2.fc2"]}


def test_there_are_many_models() -> None:
    assert len(NAMES) >= 80
    assert set(NAMES) == set(dir(zoo))
    assert {"r3d_18", "s3d", "mvit_v2_s", "swin3d_t"} <= set(VIDEO)


@pytest.mark.parametrize(
    ("name", "purpose"),
    [("fcn_resnet50", "segmentation"), ("fasterrcnn_resnet50_fpn", "detection"), ("raft_small", "optical flow")],
)
def test_a_model_for_another_purpose_is_named_with_what_it_needs(name: str, purpose: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"^{name} is torchvision's model for {purpose}, .*; write torchvision\.models\.\w+:{name}, and .* task"
    ):
        resolve("model", name)
    path = re.search(r"torchvision\.models\.\w+:\w+", zoo.elsewhere(name) or "")
    assert path is not None
    assert callable(resolve("model", path[0]))
    with pytest.raises(ConfigError, match=r"for inference alone, not for classification$"):
        resolve("model", "quantized_resnet18")


@pytest.mark.parametrize("name", NAMES)
def test_every_model_has_as_many_outputs_as_asked_for_and_its_head_is_found(name: str) -> None:
    """The layers that change with the number of classes are the head, whatever it is called."""
    seven, eight = (empty(lambda n=n: getattr(zoo, name)(num_classes=n)) for n in (7, 8))
    size = SIZES.get(name, 224)
    frames = (16,) if name in VIDEO else ()
    assert seven.train()(torch.empty(2, 3, *frames, size, size, device="meta")).shape == (2, 7)
    differing = {key for key, parameter in seven.named_parameters() if parameter.shape != eight.get_parameter(key).shape}
    assert {key.rpartition(".")[0] for key in differing} == set(heads.head_names(seven))


@pytest.mark.parametrize("name", AUXILIARY)
def test_auxiliary_outputs_come_only_when_asked_for_and_have_as_many_classes(name: str) -> None:
    model = empty(lambda: getattr(zoo, name)(num_classes=7, aux_logits=True)).train()
    outputs = model(torch.empty(2, 3, 299, 299, device="meta"))
    assert [output.shape for output in outputs] == [(2, 7)] * (1 + len(AUXILIARY[name]))
    assert heads.head_names(model) == [*AUXILIARY[name], "fc"]


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_every_resnet_has_a_stem_for_small_images(depth: int) -> None:
    small, large = (empty(lambda s=s: getattr(resnet, f"resnet{depth}")(num_classes=10, stem=s)) for s in ("cifar", "imagenet"))
    seen: list[torch.Size] = []
    small.get_submodule("layer1").register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    assert small(torch.empty(2, 3, 32, 32, device="meta")).shape == (2, 10)
    assert seen[0][2:] == (32, 32)
    assert small.get_parameter("conv1.weight").shape == (64, 3, 3, 3)
    rest = [{name: p.shape for name, p in model.named_parameters() if name != "conv1.weight"} for model in (small, large)]
    assert rest[0] == rest[1]


@pytest.mark.parametrize(
    ("model", "head"),
    [
        (MLP(4, 2, hidden=[3, 3]), ["layers.7"]),
        (CNN(1, 10, width=2), ["head.1"]),
        (nn.Linear(2, 2), [""]),
        (nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2)), ["2"]),
        (nn.Flatten(), []),
    ],
    ids=["mlp", "cnn", "one layer", "sequential", "none"],
)
def test_the_head_of_any_other_model_is_its_last_linear_layer(model: nn.Module, head: list[str]) -> None:
    assert heads.head_names(model) == head


@pytest.mark.parametrize("argument", [{"weights": "DEFAULT"}, {"pretrained": True}])
@pytest.mark.parametrize("build", [zoo.densenet121, resnet.resnet18])
def test_pretrained_weights_have_one_place(build: object, argument: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"^model\.\w+: .*write start\.pretrained: DEFAULT$"):
        build(num_classes=10, **argument)  # type: ignore[operator]


def test_a_name_that_is_no_model_is_no_attribute() -> None:
    with pytest.raises(AttributeError):
        zoo.resnet19  # noqa: B018
    assert heads.zoo_name(resnet.resnet18()) == "resnet18"
    assert heads.zoo_name(MLP(1, 1)) is None
