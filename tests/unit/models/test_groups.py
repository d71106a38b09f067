"""Groups of parameters move at their own rates, and have names of their own."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.unit.models.training import copies, train
from tests.unit.models.user_model import Theirs
from trainer.config.schema import GroupRule
from trainer.errors import ConfigError
from trainer.models.groups import parameter_groups, refuse_idle
from trainer.models.simple import CNN


def rule(**settings: Any) -> GroupRule:
    return GroupRule(**settings)


def cnn() -> CNN:
    torch.manual_seed(0)
    return CNN(1, 3, width=4)


def names(model: torch.nn.Module, group: dict[str, Any]) -> list[str]:
    known = {id(parameter): name for name, parameter in model.named_parameters()}
    return [known[id(parameter)] for parameter in group["params"]]


def test_two_groups_move_at_two_rates() -> None:
    """A first step of SGD is the rate times the gradient, so the steps stand to each other as the rates do."""
    one, two = cnn(), cnn()
    start = copies(one)
    train(one, torch.optim.SGD(parameter_groups(one, []), lr=0.5), steps=1)
    train(two, torch.optim.SGD(parameter_groups(two, [rule(match="features.*", lr=0.125)]), lr=0.5), steps=1)
    for name, parameter in one.named_parameters():
        share = 0.25 if name.startswith("features.") else 1.0
        step = two.get_parameter(name) - start[name]
        assert torch.allclose(step, share * (parameter - start[name]), rtol=1e-3, atol=1e-7)
        assert step.abs().sum() > 0


def test_no_decay_on_norms_and_biases_is_one_rule() -> None:
    model = cnn()
    groups = parameter_groups(model, [rule(match=["norms", "biases"], weight_decay=0.0)])
    optimizer = torch.optim.SGD(groups, lr=1.0, weight_decay=0.5)
    before = copies(model)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        is_weight = name in ("head.1.weight", *(f"features.{n}.0.weight" for n in (0, 1, 3, 4)))
        assert torch.equal(parameter, before[name] * (0.5 if is_weight else 1.0)), name
    assert [group["name"] for group in optimizer.param_groups] == ["norms,biases", "rest"]


def test_the_first_rule_that_matches_counts_and_the_rest_is_last() -> None:
    model = cnn()
    groups = parameter_groups(model, [rule(match="features.0.*", lr=0.1), rule(match="features.*", lr=0.2, name="body")])
    assert [(group["name"], group.get("lr"), len(group["params"])) for group in groups] == [
        ("features.0.*", 0.1, 3),
        ("body", 0.2, 9),
        ("rest", None, 2),
    ]
    assert sorted(name for group in groups for name in names(model, group)) == sorted(name for name, _ in model.named_parameters())


def test_without_rules_there_is_one_group_in_the_models_order() -> None:
    model = cnn()
    (group,) = parameter_groups(model, [])
    assert names(model, group) == [name for name, _ in model.named_parameters()]
    assert group.keys() == {"params"}


def test_what_never_trains_is_in_no_group() -> None:
    model = cnn()
    groups = parameter_groups(model, [rule(match="head", lr=0.1)], {"head.1.bias", "features.0.0.weight"})
    assert names(model, groups[0]) == ["head.1.weight"]
    assert "features.0.0.weight" not in names(model, groups[1])


def test_names_in_the_logs_are_unique() -> None:
    model = cnn()
    groups = parameter_groups(model, [rule(match="features.0.*", name="rest"), rule(match="features.1.*", name="rest")])
    assert [group["name"] for group in groups] == ["rest", "rest-2", "rest-3"]


def test_a_shared_parameter_is_in_one_group() -> None:
    model = Theirs()
    groups = parameter_groups(model, [rule(match="again.*", lr=0.1)])
    assert names(model, groups[0]) == ["mix.weight", "again.bias"]
    torch.optim.SGD(groups, lr=0.1)  # it refuses a parameter that is in two


@pytest.mark.parametrize(
    ("rules", "frozen", "message"),
    [
        (
            [rule(match="features.*"), rule(match="features.0.*")],
            set(),
            r"^groups\.1: all that features\.0\.\* matches is frozen or taken by",
        ),
        ([rule(match="head")], {"head.1.weight", "head.1.bias"}, r"^groups\.0: all that head matches is frozen; "),
        ([rule(match="haed.*")], set(), r"^groups\.0\.match: 'haed\.\*' is the name of no parameter \(did you mean 'head\.\*'\?\)$"),
    ],
)
def test_a_rule_without_effect_is_refused(rules: list[GroupRule], frozen: set[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parameter_groups(cnn(), rules, frozen)


def test_a_setting_that_the_optimizer_does_not_have_is_refused() -> None:
    model = cnn()
    rules = [rule(match="head", weight_decay=0.1)]
    refuse_idle(torch.optim.SGD(parameter_groups(model, rules), lr=0.1), rules)
    with pytest.raises(ConfigError, match=r"^groups\.0\.weight_decay: Rprop has no weight_decay; leave it out$"):
        refuse_idle(torch.optim.Rprop(parameter_groups(model, rules)), rules)
