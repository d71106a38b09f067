"""A model in a table: layers, shapes, parameters, multiplications, for one batch of the data set."""

from __future__ import annotations

import contextlib
import copy
from dataclasses import dataclass
from typing import Any

import torch
import torchinfo
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from trainer.build import dataset, make
from trainer.config.schema import Config
from trainer.config.strict_yaml import one_line
from trainer.data.bad_samples import BadSamples
from trainer.data.loader import eval_batches
from trainer.errors import ConfigError, TrainingError
from trainer.models.frozen import Frozen

Shape = list[int]


@dataclass(frozen=True)
class Layer:
    """One module, where it is called."""

    name: str
    kind: str
    depth: int
    input: Shape
    output: Shape
    parameters: int
    """Its own and those of what is in it; 0 where the module is called again."""
    trainable: int
    macs: int
    """Multiplications with an addition, for the whole batch, of convolutions, matrix products and attention in all its calls."""


@dataclass(frozen=True)
class Summary:
    """A whole model, for one batch."""

    input: Any
    """The shape of the inputs, in whatever structure they come."""
    output: Any
    layers: list[Layer]
    parameters: int
    trainable: int
    macs: int


def summarize(model: nn.Module, inputs: Any, depth: int | None = None) -> Summary:
    """Run a model once, and tell what its layers are.

    Where the model allows it nothing is computed: on the ``meta`` device tensors are shapes alone, so that the largest model's largest
    batch costs no time and no memory.

    Args:
        model: on the CPU; it is not changed.
        inputs: one batch of inputs.
        depth: how many levels of modules in modules to tell; all when left out.

    Raises:
        ConfigError: the model cannot take the inputs.
    """
    shapes = _mapped(inputs, lambda tensor: tensor.to("meta"))
    try:
        return _run(model, shapes, "meta", depth)
    except Exception:  # a layer that looks at values: it is computed for real
        try:
            return _run(model, inputs, "cpu", depth)
        except RuntimeError as fault:
            reason = one_line(str(fault.__cause__ or fault), 200)
            raise ConfigError(f"model: it cannot take the data set's inputs of shape {_mapped(inputs, _shape)}: {reason}") from fault


def _run(model: nn.Module, inputs: Any, device: str, depth: int | None) -> Summary:
    twin = copy.deepcopy(model).to(device)
    names = {id(module): name for name, module in twin.named_modules()}
    outputs: list[Any] = []
    twin.register_forward_hook(lambda module, given, output: outputs.append(output))
    levels = max(name.count(".") for name in names.values()) + 2
    # torchinfo's own count takes a linear layer to see one vector a sample, and knows nothing of attention.
    with FlopCounterMode(display=False) as counter:
        found = torchinfo.summary(twin, input_data=[inputs], device=device, depth=levels, mode="eval", verbose=0)
    macs = {name.partition(".")[2]: sum(counts.values()) // 2 for name, counts in counter.get_flop_counts().items() if name != "Global"}
    shown = [info for info in found.summary_list if info.executed and 0 < info.depth <= (depth or levels)]
    return Summary(
        input=_mapped(inputs, _shape),
        output=_mapped(outputs[0], _shape),
        layers=[_layer(info, names[info.layer_id], model, macs) for info in shown],
        parameters=sum(p.numel() for p in model.parameters()),
        trainable=sum(p.numel() for p in model.parameters() if p.requires_grad),
        macs=counter.get_total_flops() // 2,
    )


def _layer(info: Any, name: str, model: nn.Module, macs: dict[str, int]) -> Layer:
    # Counted in the model itself: on its way to another device a parameter that is shared becomes several.
    counted = [] if info.is_recursive else list(model.get_submodule(name).parameters())
    return Layer(
        name=name,
        kind=info.class_name,
        depth=info.depth,
        input=_plain(info.input_size),
        output=_plain(info.output_size),
        parameters=sum(p.numel() for p in counted),
        trainable=sum(p.numel() for p in counted if p.requires_grad),
        macs=macs.get(name, 0),
    )


def _plain(size: Any) -> Shape:
    return [int(number) for number in size] if all(isinstance(number, int) for number in size) else []


def _shape(tensor: torch.Tensor) -> Shape:
    return list(tensor.shape)


def _mapped(value: Any, change: Any) -> Any:
    """The same structure, each tensor changed."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: _mapped(item, change) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_mapped(item, change) for item in value]
    return value


def of_config(config: Config, depth: int | None = None) -> Summary:
    """The summary of a config's model, frozen as in the first epoch, for the first batch of its training set.

    Raises:
        OstinatoError: the data cannot be read, or the model cannot be made or take them.
    """
    model = make("model", config.model)
    if not isinstance(model, nn.Module):
        raise ConfigError(f"model {config.model.target}: it is a {type(model).__name__}, not a torch.nn.Module")
    Frozen(model, config.freeze).apply(0)
    bad = BadSamples(config.data.max_bad_samples) if config.data.bad_samples == "skip" else None
    batches = eval_batches(dataset(config, "train"), config.data.batch_size, seed=config.seed, bad=bad)
    with contextlib.closing(batches):
        inputs = next((inputs for _, inputs, _ in batches if inputs is not None), None)
    if inputs is None:
        first = next(iter(bad.found.values()), "") if bad is not None else ""
        raise TrainingError(f"data.train: not one of its samples can be read; the first: {first}")
    return summarize(model, inputs, depth)
