"""What a model's weights are when training begins: initialisers by pattern, then pretrained weights."""

from __future__ import annotations

import inspect

import torch
from torch import Tensor, nn

from trainer.config.explain import did_you_mean
from trainer.config.schema import InitRule, StartSection
from trainer.config.strict_yaml import one_line
from trainer.errors import ConfigError
from trainer.models.features import FeatureExtractor
from trainer.models.heads import head_names, zoo_name
from trainer.models.patterns import as_list, fits, words
from trainer.models.patterns import match as parameters_matching
from trainer.models.weights import Weights, read_weights
from trainer.registry import resolve

SHOWN = 8  # lines of what does not fit
_AUXILIARY = ("AuxLogits.", "aux1.", "aux2.")


def apply_start(model: nn.Module, section: StartSection) -> list[str]:
    """Give a model its first weights. After seeding, on the CPU, and before an optimizer is made from it.

    Args:
        model: as its constructor made it. Pretrained weights of a `FeatureExtractor` are those of the model inside.
        section: the config's ``start``.

    Returns:
        Lines for the log; none where there was nothing to do.

    Raises:
        ConfigError: a rule finds nothing, or the weights cannot be read or do not fit.
    """
    lines = [_initialise(model, rule, f"start.init.{number}") for number, rule in enumerate(section.init)]
    if section.pretrained is not None:
        inner = model.model if isinstance(model, FeatureExtractor) else model
        lines += _load(inner, read_weights(section.pretrained, zoo_name(inner)), section)
    return lines


def _initialise(model: nn.Module, rule: InitRule, option: str) -> str:
    try:
        function = resolve("initialiser", rule.target)
    except ConfigError as fault:
        raise ConfigError(f"{option}.target: {fault}") from fault
    names = parameters_matching(model, rule.match, option)
    try:
        inspect.signature(function).bind(torch.empty(0), **rule.arguments)
    except TypeError as fault:
        raise ConfigError(f"{option}: {rule.target} refuses its arguments: {fault}") from fault
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for name in names:
        try:
            with torch.no_grad():
                function(parameters[name], **rule.arguments)
        except (TypeError, ValueError, RuntimeError) as fault:
            shape = tuple(parameters[name].shape)
            raise ConfigError(f"{option}: {rule.target} cannot fill {name} of shape {shape}: {one_line(str(fault), 160)}") from fault
    return f"start: {len(names)} parameters by {rule.target} ({', '.join(as_list(rule.match))})"


def _load(model: nn.Module, weights: Weights, section: StartSection) -> list[str]:
    wanted = {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    found, left_out = _sorted_out(model, weights, section, wanted)
    missing = [name for name in wanted if name not in found and name not in left_out and not name.endswith("num_batches_tracked")]
    strange = [name for name in found if name not in wanted]
    shapes = [name for name in found if name in wanted and found[name].shape != wanted[name].shape]
    report = [f"{name}: {_shape(found[name])} there, {_shape(wanted[name])} in the model" for name in shapes]
    report += [f"{name}: missing there" for name in missing]
    report += [f"{name}: there, and not in the model" for name in strange]
    fitting = {name: value for name, value in found.items() if name not in strange and name not in shapes}
    if report and (section.strict or not any(name in wanted for name in fitting)):
        raise ConfigError(_refusal(weights, report, model, missing + shapes, len(fitting)), *_listed(report))
    _refuse_other_inputs(model, weights)
    state = type(weights.tensors)(fitting)
    # Layers that have changed their format look up its version here.
    state._metadata = weights.metadata or getattr(model.state_dict(), "_metadata", None)  # type: ignore[attr-defined]
    model.load_state_dict(state, strict=False)
    taken = sum(name in wanted for name in fitting)
    lines = [f"start: {taken} of {len(wanted)} tensors from {weights.source}"]
    if left_out:
        shown = ", ".join(left_out[:4]) + (f" and {len(left_out) - 4} more" if len(left_out) > 4 else "")
        lines.append(f"start: not taken from there, as asked or of other classes: {shown}")
    return lines + ([f"start: {len(report)} tensors do not fit:", *_listed(report)] if report else [])


def _sorted_out(
    model: nn.Module, weights: Weights, section: StartSection, wanted: dict[str, Tensor]
) -> tuple[dict[str, Tensor], list[str]]:
    """What is to be loaded, and the names of the model that are left as they are."""
    heads = tuple(f"{name}." if name else "" for name in head_names(model))
    skipped = _skipped(model, section, {**wanted, **weights.tensors})
    found = {name: value for name, value in weights.tensors.items() if name not in skipped}
    left_out = [name for name in wanted if name in skipped]
    if weights.of_zoo:
        for name in list(found):
            if name.startswith(_AUXILIARY) and name not in wanted:
                del found[name]  # the model was made without its auxiliary classifiers
            elif name.startswith(heads) and name in wanted and found[name].shape != wanted[name].shape:
                del found[name]  # the head is for other classes than ImageNet's
                left_out.append(name)
    return found, left_out


def _skipped(model: nn.Module, section: StartSection, names: dict[str, Tensor]) -> set[str]:
    known = words()
    skipped = set[str]()
    for pattern in as_list(section.skip):
        here = known[pattern](model) if pattern in known else {name for name in names if fits(name, pattern)}
        if not here:
            raise ConfigError(f"start.skip: '{one_line(pattern, 60)}' is the name of no tensor{did_you_mean(pattern, [*known, *names])}")
        skipped |= here
    return skipped


def _refusal(weights: Weights, report: list[str], model: nn.Module, here: list[str], fitting: int) -> str:
    what = f"start.pretrained: {weights.source}: {len(report)} tensors do not fit"
    if not fitting:
        return f"{what}, and none does; it is of another model"
    heads = tuple(f"{name}." for name in head_names(model) if name)
    if heads and here and all(name.startswith(heads) for name in here):
        return f"{what}; if the head is for other classes, write start.skip: head"
    return f"{what}; leave them out by name (start.skip), or all of them (start.strict: false)"


def _listed(report: list[str]) -> list[str]:
    shown = report if len(report) < SHOWN else report[: SHOWN - 2]
    more = len(report) - len(shown)
    return [f"  {line}" for line in shown] + ([f"  and {more} more"] if more else [])


def _shape(tensor: Tensor) -> str:
    return f"({', '.join(map(str, tensor.shape))})"


def _refuse_other_inputs(model: nn.Module, weights: Weights) -> None:
    """Inception's and GoogLeNet's weights are for inputs scaled in another way, which the model itself does when it is told."""
    if weights.of_zoo and getattr(model, "transform_input", True) is False:
        raise ConfigError("model.transform_input: these weights are for inputs scaled in another way; write transform_input: true")
