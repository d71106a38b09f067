"""First weights by initialisers: those of `torch.nn.init`, for what a pattern finds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.unit.models.training import cnn, copies, moved, saved
from trainer.config.schema import InitRule, StartSection
from trainer.errors import ConfigError
from trainer.models import resnet
from trainer.models.start import apply_start


def init(**settings: Any) -> StartSection:
    return StartSection(init=[InitRule.model_validate(settings)])


@pytest.mark.parametrize("name", ["constant", "constant_"])
def test_an_initialiser_fills_what_its_pattern_finds_and_nothing_else(name: str) -> None:
    model = cnn()
    before = copies(model)
    lines = apply_start(model, init(target=name, match=["features.*.0.weight", "head.1.bias"], val=0.25))
    filled = {f"features.{n}.0.weight" for n in (0, 1, 3, 4)} | {"head.1.bias"}
    assert moved(model, before) == filled
    assert all((model.get_parameter(name) == 0.25).all() for name in filled)
    assert lines == ["start: 5 parameters by constant" + name.removeprefix("constant") + " (features.*.0.weight, head.1.bias)"]


def kaiming(weight: Tensor) -> Any:
    return nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu")


@pytest.mark.parametrize(
    ("rule", "by_hand"),
    [
        ({"target": "kaiming_normal", "mode": "fan_out", "nonlinearity": "relu"}, kaiming),
        ({"target": "xavier_uniform", "gain": 2.0}, lambda weight: nn.init.xavier_uniform_(weight, gain=2.0)),
        ({"target": "normal_", "std": 0.01}, lambda weight: nn.init.normal_(weight, std=0.01)),
        ({"target": "orthogonal"}, nn.init.orthogonal_),
        ({"target": "tests.unit.models.test_initialisers:kaiming"}, kaiming),
    ],
    ids=lambda value: value["target"] if isinstance(value, dict) else "",
)
def test_it_draws_the_numbers_that_the_same_call_by_hand_draws(rule: dict[str, Any], by_hand: Callable[[Tensor], Any]) -> None:
    model, other = cnn(), cnn(seed=1)
    torch.manual_seed(7)
    apply_start(model, init(match="features.*.0.weight", **rule))
    torch.manual_seed(7)
    for number in (0, 1, 3, 4):
        by_hand(other.get_parameter(f"features.{number}.0.weight"))
        assert torch.equal(*(m.get_parameter(f"features.{number}.0.weight") for m in (model, other)))


def test_the_last_norm_of_residual_blocks_can_begin_at_zero() -> None:
    by_rule, by_argument = resnet.resnet18(num_classes=2), resnet.resnet18(num_classes=2, zero_init_residual=True)
    apply_start(by_rule, init(target="zeros", match="layer*.bn2.weight"))
    zeros = [
        {name for name, p in model.named_parameters() if p.ndim == 1 and "weight" in name and not p.any()}
        for model in (by_rule, by_argument)
    ]
    assert zeros[0] == zeros[1] == {f"layer{stage}.{block}.bn2.weight" for stage in (1, 2, 3, 4) for block in (0, 1)}


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            {"target": "kaiming_norml", "match": "*"},
            r"^start\.init\.0\.target: there is no initialiser 'kaiming_norml' \(did you mean 'kaiming_normal'\?\)$",
        ),
        ({"target": "normal", "match": "head.*", "sdt": 1.0}, r"^start\.init\.0: normal refuses its arguments: .*'sdt'"),
        ({"target": "constant", "match": "head.*"}, r"^start\.init\.0: constant refuses its arguments: .*'val'"),
        ({"target": "kaiming_normal", "match": "norms"}, r"cannot fill features\.0\.1\.weight of shape \(4,\): Fan in and fan out"),
        ({"target": "zeros", "match": "haed.*"}, r"^start\.init\.0\.match: 'haed\.\*' is the name of no parameter"),
        ({"target": "normal", "match": "head.1.bias", "std": "much"}, r"^start\.init\.0: normal cannot fill head\.1\.bias"),
        ({"target": "calculate_gain", "match": "head.1.bias"}, r"there is no initialiser 'calculate_gain'"),
    ],
)
def test_an_initialiser_that_cannot_work_is_one_line(rule: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        apply_start(cnn(), init(**rule))
    assert "\n" not in str(error.value)


def test_an_initialiser_comes_before_pretrained_weights(tmp_path: Path) -> None:
    source, model = cnn(), cnn(seed=1)
    section = StartSection(
        init=[InitRule.model_validate({"target": "zeros", "match": "*"})],
        pretrained=saved(source.state_dict(), tmp_path / "w.pt"),
        skip="head",
    )
    apply_start(model, section)
    assert moved(model, copies(source)) == {"head.1.weight", "head.1.bias"}
    assert not model.get_parameter("head.1.weight").any()


def test_without_a_word_nothing_happens() -> None:
    model = cnn()
    before = copies(model)
    assert apply_start(model, StartSection()) == []
    assert moved(model, before) == set()
