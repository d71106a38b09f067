"""What a summary says of a model is what the model is."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.unit.models.empty import empty
from trainer.config.schema import FreezeRule
from trainer.errors import ConfigError
from trainer.models import resnet, zoo
from trainer.models.frozen import Frozen
from trainer.models.simple import CNN
from trainer.models.summary import Layer, Summary, summarize


def by_name(found: Summary) -> dict[str, Layer]:
    return {layer.name: layer for layer in found.layers}


def test_shapes_parameters_and_multiplications_are_those_of_the_layers() -> None:
    found = summarize(CNN(1, 10, width=4), torch.rand(5, 1, 8, 8))
    layers = by_name(found)
    first = layers["features.0.0"]
    assert (first.kind, first.input, first.output, first.depth) == ("Conv2d", [5, 1, 8, 8], [5, 4, 8, 8], 3)
    assert (first.parameters, first.macs) == (4 * 9, 5 * 64 * 4 * 9)
    assert (layers["head.1"].parameters, layers["head.1"].macs) == (8 * 10 + 10, 5 * 8 * 10)
    assert (found.input, found.output) == ([5, 1, 8, 8], [5, 10])
    assert found.macs == sum(layer.macs for layer in found.layers if layer.depth == 1)
    assert found.parameters == found.trainable == sum(p.numel() for p in CNN(1, 10, width=4).parameters())


@pytest.mark.parametrize(("name", "gmacs"), [("resnet50", 4.09), ("vit_b_16", 17.56), ("mobilenet_v2", 0.30), ("swin_t", 4.49)])
def test_the_multiplications_are_those_that_torchvision_publishes(name: str, gmacs: float) -> None:
    """Attention and layers over sequences included; the largest batch costs nothing, for nothing is computed."""
    model = empty(lambda: getattr(zoo, name)())
    found = summarize(model, torch.empty(1024, 3, 224, 224, device="meta"))
    assert found.macs / 1024 / 1e9 == pytest.approx(gmacs, rel=0.03)


def test_frozen_parameters_are_told_from_trainable_ones() -> None:
    model = resnet.resnet18(num_classes=10)
    Frozen(model, [FreezeRule(match="*", but=["head", "layer4.0.bn1.*"])]).apply(0)
    found = summarize(model, torch.empty(1, 3, 32, 32))
    layers = by_name(found)
    assert layers["conv1"].trainable == 0
    assert layers["layer4"].trainable == layers["layer4.0.bn1"].parameters == 1024
    assert found.trainable == 5130 + 1024


def test_a_summary_does_not_touch_the_model() -> None:
    model = CNN(1, 10, width=4).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    summarize(model, torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training
    assert next(model.parameters()).device.type == "cpu"
    assert torch.equal(torch.get_rng_state(), state)


def test_depth_says_how_much_is_shown() -> None:
    assert {layer.depth for layer in summarize(CNN(1, 10, width=4), torch.rand(2, 1, 8, 8), depth=1).layers} == {1}


class ByValue(nn.Module):
    """It looks at its inputs' values, which a shape does not have."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 3)

    def forward(self, given: dict[str, Tensor]) -> list[Tensor]:
        return [self.layer(given["x"])] * int(given["times"].sum())


def test_a_model_that_looks_at_values_is_computed_for_real_and_takes_what_the_data_set_gives() -> None:
    found = summarize(ByValue(), {"x": torch.rand(4, 2), "times": torch.ones(2)})
    assert found.input == {"x": [4, 2], "times": [2]}
    assert found.output == [[4, 3], [4, 3]]
    assert found.macs == 4 * 2 * 3


def test_a_layer_that_is_called_twice_counts_its_parameters_once_and_its_multiplications_twice() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.layer(self.layer(x))
            return found

    found = summarize(Twice(), torch.rand(2, 3))
    assert (found.parameters, found.macs) == (12, 2 * 2 * 9)
    assert [layer.parameters for layer in found.layers] == [12, 0]


def test_inputs_that_the_model_cannot_take_are_one_line() -> None:
    with pytest.raises(ConfigError, match=r"^model: it cannot take the data set's inputs of shape \[2, 3, 8, 8\]: ") as error:
        summarize(CNN(1, 10, width=4), torch.rand(2, 3, 8, 8))
    assert "\n" not in str(error.value)
