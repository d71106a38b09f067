"""What is frozen does not move, whatever the optimizer; what is unfrozen moves from its epoch on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from tests.unit.models.training import copies, images, moved, train
from tests.unit.models.user_model import Theirs
from trainer.config.schema import FreezeRule
from trainer.errors import ConfigError
from trainer.models.frozen import Frozen, frozen_norms, frozen_parameters
from trainer.models.groups import parameter_groups
from trainer.models.simple import CNN

STEM = {"features.0.0.weight", "features.0.1.weight", "features.0.1.bias"}
STATISTICS = {"features.0.1.running_mean", "features.0.1.running_var", "features.0.1.num_batches_tracked"}

OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9, weight_decay=0.1, nesterov=True),
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=0.1, weight_decay=0.1),
    "rmsprop": lambda groups: torch.optim.RMSprop(groups, lr=0.01, momentum=0.9, weight_decay=0.1),
}


def cnn() -> CNN:
    torch.manual_seed(0)
    return CNN(1, 3, width=4)


def rule(**settings: Any) -> FreezeRule:
    return FreezeRule(**settings)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_is_frozen_for_ever_keeps_its_bits_and_the_rest_moves(name: str) -> None:
    model = cnn()
    frozen = Frozen(model, [rule(match="features.0.*")])
    frozen.apply(0)
    optimizer = OPTIMIZERS[name](parameter_groups(model, [], frozen.for_ever))
    before = copies(model)
    train(model, optimizer, frozen=frozen)
    assert moved(model, before) == before.keys() - STEM - STATISTICS
    assert frozen.for_ever == STEM


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_neither_momentum_nor_weight_decay_moves_what_is_frozen_until_an_epoch(name: str) -> None:
    """It is in the optimizer from the start, and has even trained before: its momentum is not zero."""
    model = cnn()
    frozen = Frozen(model, [rule(match="features.0.*", until_epoch=2)])
    optimizer = OPTIMIZERS[name](parameter_groups(model, [], frozen.for_ever))
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))
    frozen.apply(2)
    train(model, optimizer, frozen=frozen)
    frozen.apply(1)
    before = copies(model)
    train(model, optimizer, frozen=frozen, seed=3)
    assert moved(model, before) == before.keys() - STEM - STATISTICS
    frozen.apply(2)
    before = copies(model)
    train(model, optimizer, frozen=frozen, seed=6)
    assert moved(model, before) == before.keys()


def test_statistics_move_where_the_rule_says_so() -> None:
    model = cnn()
    frozen = Frozen(model, [rule(match="features.0.*", statistics=False)])
    frozen.apply(0)
    before = copies(model)
    train(model, OPTIMIZERS["sgd"](parameter_groups(model, [], frozen.for_ever)), frozen=frozen)
    assert moved(model, before) == before.keys() - STEM


def test_a_frozen_norm_normalises_with_its_running_statistics_while_the_rest_trains() -> None:
    model = cnn()
    frozen = Frozen(model, [rule(match="features.0.*")])
    frozen.apply(0)
    model.train()
    frozen.train_mode(model)
    training = {name for name, module in model.named_modules() if not module.training}
    assert training == frozen.norms == {"features.0.1"}


def test_a_norm_that_trains_in_part_keeps_its_statistics_going() -> None:
    assert Frozen(cnn(), [rule(match="biases")]).norms == set()


def test_a_norm_without_parameters_is_found_by_its_name() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, affine=False), nn.Linear(2, 2))
    assert Frozen(model, [rule(match=["0.*"])]).norms == set()
    assert Frozen(model, [rule(match="*", but="2.*")]).norms == {"1"}


def test_several_rules_each_have_their_time() -> None:
    model = cnn()
    frozen = Frozen(model, [rule(match="*", but="head", until_epoch=1), rule(match="features.0.*", until_epoch=3)])

    def frozen_at(epoch: int) -> set[str]:
        return frozen_parameters(frozen.parts, epoch)

    assert frozen_at(0) == {name for name, _ in model.named_parameters() if not name.startswith("head")}
    assert frozen_at(1) == frozen_at(2) == STEM
    assert frozen_at(3) == set()
    assert [len(frozen_norms(frozen.parts, epoch)) for epoch in range(4)] == [4, 1, 1, 0]
    changes = [frozen.apply(epoch) for epoch in range(5)]
    assert changes == [True, True, False, True, False]
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_what_the_model_itself_has_frozen_stays_frozen() -> None:
    model = cnn()
    model.get_parameter("head.1.bias").requires_grad_(False)
    frozen = Frozen(model, [rule(match="head", until_epoch=1)])
    frozen.apply(1)
    assert frozen.for_ever == {"head.1.bias"}
    assert not model.get_parameter("head.1.bias").requires_grad
    assert model.get_parameter("head.1.weight").requires_grad


def test_without_rules_nothing_is_frozen() -> None:
    model = cnn()
    frozen = Frozen(model, [])
    assert not frozen.apply(0)
    assert (frozen.for_ever, frozen.norms) == (set(), set())


def test_a_parameter_shared_under_two_names_is_frozen_by_either() -> None:
    torch.manual_seed(0)
    model = Theirs()
    frozen = Frozen(model, [rule(match="again.weight")])
    frozen.apply(0)
    before = copies(model)
    train(model, OPTIMIZERS["sgd"](parameter_groups(model, [], frozen.for_ever)), frozen=frozen)
    assert before.keys() - moved(model, before) == {"mix.weight", "again.weight"}


def test_a_rule_that_finds_nothing_is_named_by_its_place() -> None:
    with pytest.raises(ConfigError, match=r"^freeze\.1\.match: 'fetures\.\*'.*did you mean 'features\.\*'"):
        Frozen(cnn(), [rule(match="head"), rule(match="fetures.*")])


def test_frozen_layers_give_no_gradient() -> None:
    model = cnn()
    model(images()).sum().backward()
    Frozen(model, [rule(match="*", but="head")]).apply(0)
    assert {name for name, p in model.named_parameters() if p.grad is not None} == {"head.1.weight", "head.1.bias"}
