"""Pretrained weights: from torchvision by name, from a file, or from a run. Only tensors are ever unpickled."""

from __future__ import annotations

import fcntl
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from trainer.checkpoint import store
from trainer.config.explain import did_you_mean
from trainer.config.strict_yaml import one_line
from trainer.errors import CheckpointError, ConfigError
from trainer.models.weight_files import is_file_name, missing
from trainer.rundir import RunDir
from trainer.vision import import_torchvision

_INSIDE = ("model", "state_dict", "model_state_dict")
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.(?=\d\.)")  # torchvision's files still have `norm.1`


@dataclass(frozen=True)
class Weights:
    """Tensors by name, on the CPU."""

    tensors: OrderedDict[str, Tensor]
    source: str
    """Where they come from, for people."""
    metadata: Any = None
    """The version of each layer's format, as a model's ``state_dict`` has it."""
    of_zoo: bool = False
    """Whether they are torchvision's own, for ImageNet's 1000 classes."""


def read_weights(pretrained: str, zoo_name: str | None) -> Weights:
    """The weights that ``start.pretrained`` names.

    Args:
        pretrained: weights of torchvision's, a file, or a run folder.
        zoo_name: the model's name in torchvision, if it has one.

    Raises:
        ConfigError: they are not there, or cannot be read; the text says what to do.
    """
    path = Path(pretrained)
    if (fault := missing(pretrained)) is not None:
        raise ConfigError(f"start.pretrained: {fault}")
    if path.is_dir():
        return _of_run(path)
    if is_file_name(pretrained):
        return _of_file(path)
    return _of_torchvision(pretrained, zoo_name)


def _of_run(path: Path) -> Weights:
    run = RunDir(path)
    name = store.pointed(run.checkpoints, "best") or store.newest_good(run.checkpoints)[0]
    if name is None:
        raise ConfigError(f"start.pretrained: {path}: this run has no checkpoint that can be used")
    try:
        state = store.load(run.checkpoints / name)
        tensors = OrderedDict(state["model"])
        average = averaged(state)
        seen = {value.data_ptr(): key for key, value in tensors.items() if key in average}
        for key, value in tensors.items():  # a shared parameter has several names here, and one in the average
            tensors[key] = average.get(key, average.get(seen.get(value.data_ptr(), ""), value))
    except (CheckpointError, KeyError, TypeError, AttributeError) as fault:
        raise ConfigError(f"start.pretrained: {one_line(str(fault), 300)}") from fault
    what = f"{path} ({name}{', averaged weights' if average else ''})"
    return Weights(tensors, what, getattr(state["model"], "_metadata", None))


def averaged(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The averaged weights and their buffers, where the run keeps an average that has begun."""
    for name in ("swa", "ema"):
        average = state.get(name)
        if average is not None and int(average.get("count", {}).get("epochs", 1)):
            return {**average["parameters"], **average["buffers"]}
    return {}


def _of_file(path: Path) -> Weights:
    if path.suffix == ".safetensors":
        return _of_safetensors(path)
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError as fault:
        raise ConfigError(f"start.pretrained: {path}: cannot be read ({fault.strerror})") from fault
    except Exception as fault:  # not torch's text: it advises to unpickle without care
        raise ConfigError(
            f"start.pretrained: {path}: damaged, or holds more than tensors and plain types ({type(fault).__name__}); it is never "
            "unpickled; save model.state_dict() alone, where the file comes from"
        ) from fault
    return _state_dict(found, path)


def _of_safetensors(path: Path) -> Weights:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path, device="cpu")
    except (SafetensorError, OSError, ValueError) as fault:
        raise ConfigError(f"start.pretrained: {path}: no readable safetensors file ({one_line(str(fault), 120)})") from fault
    return _plain(tensors, str(path), None)


def _state_dict(found: Any, path: Path) -> Weights:
    """A state dict by itself, or the one in a checkpoint."""
    for _ in range(2):
        inner = next((found[key] for key in _INSIDE if isinstance(found.get(key), Mapping)), None) if isinstance(found, Mapping) else None
        if inner is None:
            break
        found = inner
    if not isinstance(found, Mapping) or not any(isinstance(value, Tensor) for value in found.values()):
        kind = f"a mapping of {', '.join(map(str, list(found)[:4]))}" if isinstance(found, Mapping) else f"a {type(found).__name__}"
        raise ConfigError(
            f"start.pretrained: {path}: no state dict: {one_line(kind, 120)}; save model.state_dict(), or put it under 'model'"
        )
    tensors = {str(name): value for name, value in found.items() if isinstance(value, Tensor)}
    return _plain(tensors, str(path), getattr(found, "_metadata", None))


def _plain(tensors: Mapping[str, Tensor], source: str, metadata: Any, of_zoo: bool = False) -> Weights:
    """Names as the bare model has them: without ``module.`` of DistributedDataParallel and ``_orig_mod.`` of torch.compile."""
    names = {name: _OLD_DENSENET.sub(r"\1", name) for name in tensors}
    prefixed = False
    for prefix in ("module.", "_orig_mod.", "module."):
        if all(name.startswith(prefix) for name in names.values()):
            names = {old: name.removeprefix(prefix) for old, name in names.items()}
            prefixed = True
    return Weights(OrderedDict((names[old], value) for old, value in tensors.items()), source, None if prefixed else metadata, of_zoo)


class _Named(NamedTuple):
    """One of torchvision's sets of weights."""

    value: Any
    name: str
    url: str

    @property
    def file(self) -> str:
        return self.url.rpartition("/")[2]


def _of_torchvision(pretrained: str, zoo_name: str | None) -> Weights:
    named = _named(pretrained, zoo_name)
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    try:
        with _alone(folder, named.file):  # of the workers of one machine one fetches the file
            found = named.value.get_state_dict(progress=False, check_hash=True, map_location="cpu", weights_only=True)
    except Exception as fault:  # whatever a network, a proxy or a disk may say
        reason = one_line(str(fault) or type(fault).__name__, 120)
        raise ConfigError(
            f"start.pretrained: {named.name}: {named.file} cannot be fetched from {named.url} ({reason}); fetch it elsewhere and name the "
            f"file here (start.pretrained=path/{named.file}), or put it in {folder}"
        ) from fault
    return _plain(found, f"torchvision's {named.name}", getattr(found, "_metadata", None), of_zoo=True)


def _named(pretrained: str, zoo_name: str | None) -> _Named:
    models = import_torchvision().models
    if "." in pretrained:  # ResNet18_Weights.IMAGENET1K_V1: for a model that is not named by its name in the zoo
        try:
            found = models.get_weight(pretrained)
        except (ValueError, AttributeError, KeyError, TypeError) as fault:
            raise ConfigError(
                f"start.pretrained: torchvision has no weights '{one_line(pretrained, 60)}', and there is no such file"
            ) from fault
        return _Named(found, str(found), found.url)
    if zoo_name is None:
        raise ConfigError(
            f"start.pretrained: '{one_line(pretrained, 60)}' is no file or run folder, and the model is none of torchvision's, "
            "whose weights have such names"
        )
    known = models.get_model_weights(zoo_name)
    names = list(dict.fromkeys(["DEFAULT", *known.__members__])) if len(known) else []
    if pretrained not in names:
        near = did_you_mean(pretrained, names) or (f"; there are {', '.join(names)}" if names else "; there are none")
        raise ConfigError(
            f"start.pretrained: '{one_line(pretrained, 60)}' is no file or run folder, nor the name of weights for {zoo_name}{near}"
        )
    return _Named(known[pretrained], str(known[pretrained]), known[pretrained].url)


@contextmanager
def _alone(folder: Path, file: str) -> Iterator[None]:
    """Hold a lock that ends with its holder; where the folder cannot be written, without one: the file may be there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / f".{file}.lock", "w")  # noqa: SIM115 - held until the caller is done
    except OSError:
        yield
        return
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
