from collections.abc import Callable

import pytest
import torch
from torch import nn

from trainer.errors import ConfigError
from trainer.models import resnet
from trainer.models.simple import CNN, MLP


@pytest.mark.parametrize("size", [8, 28, 32])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_cnn_takes_every_small_image(size: int, channels: int) -> None:
    assert CNN(channels, 7, width=4, dropout=0.1)(torch.rand(2, channels, size, size)).shape == (2, 7)


def test_an_mlp_flattens_its_inputs() -> None:
    assert MLP(64, 10)(torch.rand(3, 1, 8, 8)).shape == (3, 10)


def test_an_mlps_layers_come_as_one_width_and_a_depth_or_as_a_list() -> None:
    def widths(model: nn.Module) -> list[int]:
        return [layer.out_features for layer in model.modules() if isinstance(layer, nn.Linear)]

    assert widths(MLP(4, 2, hidden=8, depth=3)) == [8, 8, 8, 2]
    assert widths(MLP(4, 2, hidden=[8, 6])) == [8, 6, 2]
    assert widths(MLP(4, 2, hidden=[])) == [2]


@pytest.mark.parametrize("model", [MLP(64, 10, dropout=0.2), CNN(1, 10, width=4)], ids=["mlp", "cnn"])
def test_every_parameter_gets_a_gradient(model: nn.Module) -> None:
    model(torch.rand(4, 1, 8, 8)).square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in model.parameters())


@pytest.mark.parametrize(
    ("build", "parameters"),
    # The parameter counts that torchvision's documentation gives for 1000 classes.
    [
        (resnet.resnet18, 11_689_512),
        (resnet.resnet34, 21_797_672),
        (resnet.resnet50, 25_557_032),
        (resnet.resnet101, 44_549_160),
        (resnet.resnet152, 60_192_808),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_imagenet_resnets_have_the_documented_size(build: Callable[..., nn.Module], parameters: int) -> None:
    with torch.device("meta"):
        model = build()
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_the_cifar_stem_keeps_the_resolution() -> None:
    model = resnet.resnet18(num_classes=10, stem="cifar").eval()
    seen: list[torch.Size] = []
    model.get_submodule("layer1").register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    assert model(torch.rand(1, 3, 32, 32)).shape == (1, 10)
    assert seen == [(1, 64, 32, 32)]


def test_further_arguments_reach_torchvision() -> None:
    assert resnet.resnet18(zero_init_residual=True).get_parameter("layer1.0.bn2.weight").abs().sum() == 0


def test_an_unknown_stem_is_refused() -> None:
    with pytest.raises(ConfigError, match="use imagenet or cifar"):
        resnet.resnet18(stem="cifer")  # type: ignore[arg-type]
