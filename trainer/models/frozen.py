"""Parameters that do not train, or not from the beginning, and the BatchNorm statistics that go with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from trainer.config.schema import FreezeRule
from trainer.models.patterns import as_list, first_names, fits, match


@dataclass(frozen=True)
class Part:
    """What one rule freezes, by name."""

    parameters: frozenset[str]
    norms: frozenset[str]
    """BatchNorm layers whose statistics stand still as well."""
    until_epoch: int | None

    def frozen(self, epoch: int) -> bool:
        """Whether it is frozen in an epoch, counted from 0."""
        return self.until_epoch is None or epoch < self.until_epoch


def frozen_parameters(parts: Sequence[Part], epoch: int) -> set[str]:
    """The parameters that do not train in an epoch. Pure; one rule is enough to freeze one."""
    return {name for part in parts if part.frozen(epoch) for name in part.parameters}


def frozen_norms(parts: Sequence[Part], epoch: int) -> set[str]:
    """The BatchNorm layers whose statistics stand still in an epoch. Pure."""
    return {name for part in parts if part.frozen(epoch) for name in part.norms}


class Frozen:
    """What of a model is frozen, and when.

    Args:
        model: the bare model, before the optimizer is made. What has ``requires_grad = False`` already stays so.
        rules: the config's.

    Raises:
        ConfigError: a rule finds nothing.
    """

    def __init__(self, model: nn.Module, rules: Sequence[FreezeRule]) -> None:
        self.parts = [_part(model, rule, f"freeze.{number}") for number, rule in enumerate(rules)]
        self._parameters = dict(model.named_parameters())
        self._own = {name for name, parameter in self._parameters.items() if not parameter.requires_grad}
        self._epoch = 0
        self.for_ever = self._own.union(*(part.parameters for part in self.parts if part.until_epoch is None))

    @property
    def all_until(self) -> int | None:
        """The epoch from which on anything trains, where in epoch 0 nothing does; rules only ever set free."""
        ends = sorted(part.until_epoch for part in self.parts if part.until_epoch is not None)
        first = [epoch for epoch in (0, *ends) if self._parameters.keys() - frozen_parameters(self.parts, epoch) - self._own]
        return first[0] if first and first[0] > 0 else None

    @property
    def norms(self) -> set[str]:
        """The BatchNorm layers whose statistics stand still now."""
        return frozen_norms(self.parts, self._epoch)

    def apply(self, epoch: int) -> bool:
        """Set ``requires_grad`` as it is to be in an epoch.

        Returns:
            Whether anything changed: then DistributedDataParallel, and whoever lists the trainable parameters, must be made anew.
        """
        self._epoch = epoch
        frozen = frozen_parameters(self.parts, epoch) | self._own
        changed = False
        for name, parameter in self._parameters.items():
            changed |= parameter.requires_grad == (name in frozen)
            parameter.requires_grad_(name not in frozen)
            if name in frozen:
                parameter.grad = None  # an optimizer passes over what has no gradient: neither momentum nor weight decay moves it
        return changed

    def train_mode(self, model: nn.Module) -> None:
        """Put the frozen BatchNorm layers in evaluation mode; to be called after each ``model.train()``."""
        for name in self.norms:
            model.get_submodule(name).eval()


def _part(model: nn.Module, rule: FreezeRule, option: str) -> Part:
    parameters = frozenset(match(model, rule.match, option, rule.but))
    norms = {name for name, module in model.named_modules() if _stands_still(name, module, parameters, rule)} if rule.statistics else ()
    first = first_names(model)
    return Part(frozenset(first[name] for name in parameters), frozenset(norms), rule.until_epoch)


def _stands_still(name: str, module: nn.Module, parameters: frozenset[str], rule: FreezeRule) -> bool:
    """A BatchNorm layer is among the frozen if all its parameters are; without any, if its statistics fit the patterns."""
    if not isinstance(module, _BatchNorm) or not module.track_running_stats:
        return False
    prefix = f"{name}." if name else ""
    own = {prefix + parameter for parameter, _ in module.named_parameters(recurse=False)}
    if own:
        return own <= parameters
    statistics = f"{prefix}running_mean"
    return fits(statistics, as_list(rule.match)) and not fits(statistics, as_list(rule.but))
