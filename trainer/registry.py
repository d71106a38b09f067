"""Short names for targets, and the way from a name to the object. Free of torch until a name is resolved."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from trainer.config.schema import Config, Target
from trainer.errors import ConfigError

SHORT: dict[str, dict[str, str]] = {
    "model": {
        "mlp": "trainer.models.simple:MLP",
        "cnn": "trainer.models.simple:CNN",
        **{f"resnet{depth}": f"trainer.models.resnet:resnet{depth}" for depth in (18, 34, 50, 101, 152)},
    },
    "loss": {
        "cross_entropy": "torch.nn:CrossEntropyLoss",
        "mse": "torch.nn:MSELoss",
        "l1": "torch.nn:L1Loss",
        "huber": "torch.nn:HuberLoss",
        "smooth_l1": "torch.nn:SmoothL1Loss",
        "bce": "torch.nn:BCEWithLogitsLoss",
    },
    "optimizer": {"sgd": "torch.optim:SGD", "adam": "torch.optim:Adam", "adamw": "torch.optim:AdamW", "rmsprop": "torch.optim:RMSprop"},
    "schedule": {
        **{
            name: f"trainer.optim.schedules:{name}"
            for name in ("constant", "step", "multistep", "exponential", "cosine", "one_cycle", "polynomial", "linear")
        },
        "plateau": "trainer.optim.schedules:Plateau",
    },
    "dataset": {
        "digits": "trainer.data.datasets:Digits",
        **{
            name: f"trainer.data.datasets:{name}" for name in ("cifar10", "cifar100", "mnist", "fashion_mnist", "image_folder", "fake_data")
        },
    },
    "transform": {"to_tensor": "trainer.data.transforms:ToTensor", "ToTensor": "trainer.data.transforms:ToTensor"},
}

# Where a name without a colon is looked for when it is not in the table.
FALLBACK = {
    "model": "torchvision.models",
    "loss": "torch.nn",
    "optimizer": "torch.optim",
    "schedule": "torch.optim.lr_scheduler",
    "dataset": "torchvision.datasets",
    "transform": "torchvision.transforms.v2",
}


def resolve(kind: str, name: str) -> Callable[..., Any]:
    """The object behind a target's name; importing it runs its code.

    Args:
        kind: model, loss, optimizer, schedule, dataset or transform.
        name: a short name or ``package.module:Name``.

    Raises:
        ConfigError: there is no such thing; the text says what is meant instead, if that can be guessed.
    """
    path = SHORT[kind].get(name) or (name if ":" in name else f"{FALLBACK[kind]}:{name}")
    module_name, _, attribute = path.partition(":")
    if not module_name or not attribute:
        raise ConfigError(f"{name!r} names nothing; write package.module:Name")
    module = _import(module_name, name)
    found: Any = module
    for part in attribute.split("."):
        found = getattr(found, part, None)
        if found is None or (":" not in name and part.startswith("_")):
            raise ConfigError(_unknown(kind, name, module_name, attribute, module))
    if not callable(found):
        raise ConfigError(f"{name!r} is a {type(found).__name__}, not something that can be called")
    return found  # type: ignore[no-any-return]


def _import(module_name: str, name: str) -> Any:
    if module_name.split(".")[0] == "torchvision":
        from trainer.vision import import_torchvision

        import_torchvision()
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as fault:
        if fault.name and (module_name == fault.name or module_name.startswith(f"{fault.name}.")):
            raise ConfigError(f"{name!r}: there is no module {fault.name!r} to be imported from here") from fault
        raise ConfigError(f"{name!r}: importing {module_name} failed: {fault}") from fault
    except Exception as fault:
        raise ConfigError(f"{name!r}: importing {module_name} failed: {type(fault).__name__}: {fault}") from fault


def _unknown(kind: str, name: str, module_name: str, attribute: str, module: Any) -> str:
    if ":" in name:
        close = difflib.get_close_matches(attribute, [n for n in dir(module) if not n.startswith("_")], n=1)
        hint = f"; did you mean '{module_name}:{close[0]}'?" if close else ""
        return f"{module_name} has no {attribute!r}{hint}"
    known = [*SHORT[kind], *(n for n in dir(module) if not n.startswith("_"))]
    close = difflib.get_close_matches(name, known, n=1) or difflib.get_close_matches(name.lower(), known, n=1)
    hint = f"; did you mean '{close[0]}'?" if close else f"; short names are {', '.join(SHORT[kind])}, others are package.module:Name"
    return f"there is no {kind} {name!r}{hint}"


def targets(config: Config) -> Iterator[tuple[tuple[str | int, ...], str, Target]]:
    """Every target of a config: where it stands, its kind, and itself."""
    yield ("model",), "model", config.model
    yield ("loss",), "loss", config.loss
    for split in ("train", "valid", "test"):
        target = getattr(config.data, split)
        if target is not None:
            yield ("data", split), "dataset", target
    for name in ("train_transforms", "eval_transforms"):
        for number, target in enumerate(getattr(config.data, name)):
            yield ("data", name, number), "transform", target
    yield ("optimizer",), "optimizer", config.optimizer
    yield ("schedule",), "schedule", config.schedule


def target_files(config: Config) -> dict[str, str]:
    """The source file of each target's module, by module name."""
    found: dict[str, str] = {}
    for _, kind, target in targets(config):
        module = inspect.getmodule(resolve(kind, target.target))
        file = getattr(module, "__file__", None)
        if module is not None and file:
            found[module.__name__] = file
    return found
