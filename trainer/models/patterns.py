"""Parameters by name: ``layer1.*``, lists of such, and words for what has many names. A pattern that finds nothing is an error."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase

from torch import nn

from trainer.config.explain import did_you_mean
from trainer.config.strict_yaml import one_line
from trainer.errors import ConfigError
from trainer.models.heads import head_names

Patterns = str | Sequence[str]

_NORM = re.compile(r"Norm(\dd)?$")  # torch's own and, by its name, a user's
_BIAS = re.compile(r"(^|_)bias(_|$)")  # bias, in_proj_bias, bias_ih_l0, bias_hh_l0_reverse, bias_k


def is_norm(module: nn.Module) -> bool:
    """Whether a module normalises: its class, or one that it derives from, is called ``…Norm``, ``…Norm2d`` or the like."""
    return any(_NORM.search(kind.__name__) for kind in type(module).__mro__)


def match(model: nn.Module, patterns: Patterns, option: str, but: Patterns = ()) -> list[str]:
    """The names of the parameters that patterns find, in the model's order.

    Args:
        model: the module.
        patterns: names with ``*``, which also stands for dots; or ``norms`` (all parameters of normalisation layers), ``biases``, or
            ``head`` (the last layer, whatever it is called).
        option: where the patterns stand in the config, for errors.
        but: what is left out of it.

    Raises:
        ConfigError: a pattern finds nothing, or nothing is left.
    """
    names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    found = _found(model, names, patterns, f"{option}.match" if option else "match")
    left_out = _found(model, names, but, f"{option}.but" if option else "but")
    left = [name for name in names if name in found and name not in left_out]
    if not left:
        reason = "all that it matches is left out again" if found else f"the model has none of {', '.join(as_list(patterns)) or 'nothing'}"
        raise ConfigError(f"{option}: {reason}; correct it or leave the rule out")
    return left


def first_names(model: nn.Module) -> dict[str, str]:
    """Each parameter's every name with the first of them: one that is shared has several."""
    first = {id(parameter): name for name, parameter in model.named_parameters()}
    return {name: first[id(parameter)] for name, parameter in model.named_parameters(remove_duplicate=False)}


def as_list(patterns: Patterns) -> list[str]:
    """One pattern or several, as a list."""
    return [patterns] if isinstance(patterns, str) else list(patterns)


def fits(name: str, patterns: Patterns) -> bool:
    """Whether a name fits one of the patterns; words find nothing here."""
    return any(fnmatchcase(name, pattern) for pattern in as_list(patterns))


def words() -> dict[str, Callable[[nn.Module], set[str]]]:
    """What stands for many names."""
    return {"norms": _norms, "biases": _biases, "head": _head}


def modules_matching(model: nn.Module, patterns: Patterns, option: str) -> list[str]:
    """The names of the modules that patterns find; not those inside another one that is found.

    Raises:
        ConfigError: a pattern finds nothing.
    """
    names = [name for name, _ in model.named_modules() if name]
    found: list[str] = []
    for pattern in as_list(patterns):
        here = [name for name in names if fnmatchcase(name, pattern)]
        if not here:
            raise ConfigError(f"{option}: '{one_line(pattern, 60)}' is the name of no module{_instead(pattern, names, 'modules')}")
        found += here
    inside = {name for name in found for outer in found if name.startswith(f"{outer}.")}
    return [name for name in names if name in found and name not in inside]


def _found(model: nn.Module, names: Sequence[str], patterns: Patterns, option: str) -> set[str]:
    """A word may find nothing: one rule for norms and biases fits models that lack one of them."""
    known, found = words(), set[str]()
    for pattern in as_list(patterns):
        if pattern in known:
            found |= known[pattern](model)
            continue
        here = {name for name in names if fnmatchcase(name, pattern)}
        if not here:
            raise ConfigError(f"{option}: '{one_line(pattern, 60)}' is the name of no parameter{_near(pattern, model, names)}")
        found |= here
    return found


def _near(pattern: str, model: nn.Module, names: Sequence[str]) -> str:
    modules = [f"{name}.*" for name, module in model.named_modules() if name and any(True for _ in module.parameters())]
    if f"{pattern}.*" in modules:
        return f" (did you mean '{pattern}.*'?)"
    return _instead(pattern, [*words(), *modules, *names], "parameters", shown=names)


def _instead(pattern: str, known: Sequence[str], what: str, shown: Iterable[str] | None = None) -> str:
    listed = list(known if shown is None else shown)
    more = ", …" if len(listed) > 3 else ""
    return did_you_mean(pattern, list(known)) or f"; the model's {what} are {', '.join(listed[:3])}{more} ({len(listed)} in all)"


def _norms(model: nn.Module) -> set[str]:
    norms = [(prefix, module) for prefix, module in model.named_modules() if is_norm(module)]
    return {f"{prefix}.{name}" if prefix else name for prefix, module in norms for name, _ in module.named_parameters(recurse=False)}


def _biases(model: nn.Module) -> set[str]:
    return {name for name, _ in model.named_parameters(remove_duplicate=False) if _BIAS.search(name.rpartition(".")[2])}


def _head(model: nn.Module) -> set[str]:
    heads = head_names(model)
    return {
        name
        for name, _ in model.named_parameters(remove_duplicate=False)
        if any(name.startswith(f"{head}." if head else "") for head in heads)
    }
