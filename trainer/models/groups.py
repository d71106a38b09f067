"""Parameter groups by name: settings of their own for some, the optimizer's for the rest."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import nn

from trainer.config.schema import GroupRule
from trainer.errors import ConfigError
from trainer.models.patterns import as_list, first_names, match

REST = "rest"


def parameter_groups(model: nn.Module, rules: Sequence[GroupRule], frozen_for_ever: Collection[str] = ()) -> list[dict[str, Any]]:
    """An optimizer's parameter groups, in the order of the rules; what no rule matches comes last, as ``rest``.

    Args:
        model: the bare model.
        rules: the first one that matches a parameter counts. Without any there is one group, which has no name.
        frozen_for_ever: names of parameters that never train, and go to no group.

    Raises:
        ConfigError: a rule finds nothing, or nothing that is left to it.
    """
    first = first_names(model)
    left = {name: p for name, p in model.named_parameters() if name not in frozen_for_ever}
    if not rules:
        return [{"params": list(left.values())}]
    groups: list[dict[str, Any]] = []
    for number, rule in enumerate(rules):
        found = list(dict.fromkeys(first[name] for name in match(model, rule.match, f"groups.{number}")))
        mine = [left.pop(name) for name in found if name in left]
        if not mine:
            why = "frozen" if all(name in frozen_for_ever for name in found) else "frozen or taken by the rules before it"
            raise ConfigError(f"groups.{number}: all that {_label(rule)} matches is {why}; correct it, or leave the rule out")
        settings = {"lr": rule.lr, "weight_decay": rule.weight_decay}
        groups.append({"params": mine, **{key: value for key, value in settings.items() if value is not None}, "name": _label(rule)})
    if left:
        groups.append({"params": list(left.values()), "name": REST})
    _make_unique(groups)
    return groups


def refuse_idle(optimizer: torch.optim.Optimizer, rules: Sequence[GroupRule]) -> None:
    """See that the optimizer heeds what the rules set.

    Raises:
        ConfigError: it has no such setting, so that the rule would do nothing.
    """
    for number, rule in enumerate(rules):
        for setting in ("lr", "weight_decay"):
            if getattr(rule, setting) is not None and setting not in optimizer.defaults:
                raise ConfigError(f"groups.{number}.{setting}: {type(optimizer).__name__} has no {setting}; leave it out")


def _label(rule: GroupRule) -> str:
    return rule.name or ",".join(as_list(rule.match))


def _make_unique(groups: list[dict[str, Any]]) -> None:
    """A name that came before gets a number: in the logs each learning rate has a row of its own."""
    taken: set[str] = set()
    for group in groups:
        name, again = group["name"], 1
        while group["name"] in taken:
            again += 1
            group["name"] = f"{name}-{again}"
        taken.add(group["name"])
