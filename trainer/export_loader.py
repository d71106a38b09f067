"""``load.py``, which is written beside exported weights: python that makes the model again, without ostinato where that can be."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from trainer.config.schema import Config
from trainer.data.inputs import Inputs
from trainer.models import simple
from trainer.models.heads import zoo_name
from trainer.registry import location

# What the source of our own small models consists of.
_OWN: dict[str, tuple[Callable[..., Any], ...]] = {"MLP": (simple.MLP,), "CNN": (simple._convolution, simple.CNN)}
_OWN_IMPORTS = "from collections.abc import Sequence\nfrom itertools import pairwise\n"

_TORCHVISION = """
try:
    import torchvision
except RuntimeError as fault:  # its compiled operators do not load beside this torch, and models need none of them
    if "torchvision::" not in str(fault):
        raise
    _operators = torch.library.Library("torchvision", "DEF")
    for _name in ("nms", "qnms"):
        _operators.define(_name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision
"""

_TEMPLATE = '''"""The model of the run {run} ({checkpoint}). It needs {needs}.

    from load import CLASSES, load

    model = load()  # in evaluation mode, on the CPU
    output = model(inputs)  # {given}

model.json says how inputs are prepared, under "inputs" and "eval_transforms".
"""

from __future__ import annotations

import json
{imports}from pathlib import Path

import torch
from safetensors.torch import load_model
from torch import Tensor, nn
{more}
HERE = Path(__file__).resolve().parent
CLASSES: list[str] | None = json.loads((HERE / "classes.json").read_text(encoding="utf-8"))

{source}
def build() -> nn.Module:
    """The model as it was made, with weights that mean nothing yet."""
{body}

def load() -> nn.Module:
    """The model with its trained weights, in evaluation mode."""
    model = build()
    load_model(model, HERE / "model.safetensors")
    return model.eval()


if __name__ == "__main__":
    found = load()
    print(type(found).__name__, "with", sum(parameter.numel() for parameter in found.parameters()), "parameters")
'''


@dataclass(frozen=True)
class Loader:
    """The text of ``load.py``, and what it needs."""

    text: str
    needs: str


@dataclass(frozen=True)
class _Parts:
    """What differs from model to model."""

    needs: str
    body: str
    more: str = ""
    imports: str = ""
    source: str = ""


def loader(config: Config, model: nn.Module, inputs: Inputs, run: str, checkpoint: str) -> Loader:
    """The python that loads a model.

    Args:
        config: the run's config.
        model: what the config's model target made.
        inputs: what it takes.
        run: the run's name.
        checkpoint: the checkpoint's.
    """
    parts = _parts(config, model)
    text = _TEMPLATE.format(
        run=run,
        checkpoint=checkpoint,
        needs=parts.needs,
        given=_given(inputs),
        imports=parts.imports,
        more=parts.more,
        source=parts.source,
        body=parts.body,
    )
    return Loader(text, parts.needs)


def _given(inputs: Inputs) -> str:
    shape = "".join(f", {size}" for size in inputs.shape) if inputs.shape is not None else ", …"
    return f"{inputs.dtype or 'a tensor'} (n{shape})"


def _parts(config: Config, model: nn.Module) -> _Parts:
    arguments = dict(config.model.arguments)
    module, name = location("model", config.model.target)
    known = zoo_name(model)
    if known is not None or module.split(".")[0] == "torchvision":
        return _of_torchvision(known or name.rpartition(".")[2], arguments)
    if module == simple.__name__ and name in _OWN:
        source = "\n\n".join(inspect.getsource(part) for part in _OWN[name])
        return _Parts("torch and safetensors", _call(name, arguments), imports=_OWN_IMPORTS, source=f"\n{source}\n")
    who = "ostinato" if module.split(".")[0] == "trainer" else f"the module {module} (on PYTHONPATH, or in the current folder)"
    top, _, rest = name.partition(".")
    return _Parts(f"torch, safetensors and {who}", _call(f"{top}.{rest}" if rest else top, arguments), more=f"from {module} import {top}\n")


def _of_torchvision(name: str, arguments: dict[str, Any]) -> _Parts:
    stem = arguments.pop("stem", "imagenet")
    for word in ("weights", "pretrained"):
        arguments.pop(word, None)
    if name in ("inception_v3", "googlenet"):
        arguments = {"aux_logits": False, **arguments, "init_weights": False}
    if stem == "imagenet":
        body = _call(f"torchvision.models.{name}", arguments)
    else:
        body = (
            f"    model = torchvision.models.{name}({_listed(arguments)})\n"
            "    # The stem for small images: a convolution that keeps their size, and no pool.\n"
            "    model.conv1 = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1, bias=False)\n"
            "    model.maxpool = nn.Identity()\n"
            "    return model\n"
        )
    return _Parts("torch, torchvision and safetensors", body, more=_TORCHVISION)


def _call(name: str, arguments: dict[str, Any]) -> str:
    return f"    return {name}({_listed(arguments)})\n"


def _listed(arguments: dict[str, Any]) -> str:
    if all(name.isidentifier() for name in arguments):
        return ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    return f"**{arguments!r}"
