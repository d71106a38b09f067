"""Short names for targets, and the way from a name to the object. Free of torch until a name is resolved."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import traceback
from collections.abc import Callable
from types import ModuleType
from typing import Any

from trainer.config.checks import targets
from trainer.config.explain import did_you_mean
from trainer.config.schema import Config
from trainer.config.strict_yaml import one_line
from trainer.errors import ConfigError, OstinatoError

__all__ = ["FALLBACK", "SHORT", "location", "resolve", "target_files", "targets"]

_SCHEDULES = ("constant", "step", "multistep", "exponential", "cosine", "one_cycle", "polynomial", "linear")
_DATASETS = ("cifar10", "cifar100", "mnist", "fashion_mnist", "image_folder", "fake_data")

_SETS = [(name, split) for name in ("cifar", "imagenet", "mnist") for split in ("train", "eval")]

SHORT: dict[str, dict[str, str]] = {
    "model": {
        "mlp": "trainer.models.simple:MLP",
        "cnn": "trainer.models.simple:CNN",
        "features": "trainer.models.features:features",
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
    "schedule": {**{name: f"trainer.optim.schedules:{name}" for name in _SCHEDULES}, "plateau": "trainer.optim.schedules:Plateau"},
    "dataset": {
        "digits": "trainer.data.datasets:Digits",
        **{name: f"trainer.data.datasets:{name}" for name in _DATASETS},
        **{name: f"trainer.data.arrays:{name}" for name in ("csv_table", "numpy_arrays", "safetensors_arrays")},
        "bag_of_words": "trainer.data.text:BagOfWords",
        "char_text": "trainer.data.characters:CharText",
        "video_frames": "trainer.data.video:VideoFrames",
        "in_memory": "trainer.data.whole_batch:InMemory",
    },
    "initialiser": {},
    "task": {
        "classification": "trainer.tasks.classification:Classification",
        "multi_label": "trainer.tasks.classification:MultiLabel",
        "regression": "trainer.tasks.regression:Regression",
        "loss_only": "trainer.tasks.base:Task",
    },
    "batch_transform": {"mixup": "trainer.data.batch_transforms:MixUp", "cutmix": "trainer.data.batch_transforms:CutMix"},
    "transform": {
        **{name: "trainer.data.transforms:ToTensor" for name in ("to_tensor", "ToTensor")},
        **{name: "trainer.data.transforms:Cutout" for name in ("cutout", "Cutout")},
        "ToDtype": "trainer.data.transforms:ToDtype",
        "Compose": "trainer.data.transforms:TransformList",
        **{f"{name}_{split}": f"trainer.data.sets:{name.title()}{split.title()}" for name, split in _SETS},
    },
}

# Where a name without a colon is looked for when it is not in the table, whatever its capitals and underscores.
FALLBACK = {
    "model": "trainer.models.zoo",
    "loss": "torch.nn",
    "optimizer": "torch.optim",
    "schedule": "torch.optim.lr_scheduler",
    "dataset": "torchvision.datasets",
    "transform": "torchvision.transforms.v2",
    "batch_transform": "trainer.data.batch_transforms",
    "task": "trainer.tasks.classification",
    "initialiser": "torch.nn.init",
}
_NAME_ENDS_WITH = {"loss": "Loss", "initialiser": "_"}  # torch.nn holds much that is no loss, and torch.nn.init old names


def resolve(kind: str, name: str) -> Callable[..., Any]:
    """The object behind a target's name; importing it runs its code.

    Args:
        kind: model, initialiser, loss, task, optimizer, schedule, dataset, transform or batch_transform.
        name: a short name or ``package.module:Name``.

    Raises:
        ConfigError: there is no such thing; the text says what was probably meant.
    """
    module_name, attribute = location(kind, name)
    module = _import(module_name)
    if not attribute:
        attribute = _look_up(kind, name, module)
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            known = [known for known in dir(found) if not known.startswith("_")]
            raise ConfigError(f"{module_name} has no '{one_line(part, 40)}'{did_you_mean(part, known)}")
        found = getattr(found, part)
    if not callable(found):
        raise ConfigError(f"'{name}' is a {type(found).__name__}; a target must be a class or a function")
    return found  # type: ignore[no-any-return]


def location(kind: str, name: str) -> tuple[str, str]:
    """The module that holds a target and its name there; the name is empty where the module must be searched."""
    path = name if ":" in name else SHORT[kind].get(name, SHORT[kind].get(name.lower(), f"{FALLBACK[kind]}:"))
    module_name, _, attribute = path.partition(":")
    return module_name, attribute


def target_files(config: Config) -> dict[str, str]:
    """The source file of each target's module, by module name."""
    found: dict[str, str] = {}
    for _, kind, target in targets(config):
        module = inspect.getmodule(resolve(kind, target.target))
        file = getattr(module, "__file__", None)
        if module is not None and file:
            found[module.__name__] = file
    return found


def _look_up(kind: str, name: str, module: ModuleType) -> str:
    """A short name that is not in the table, as the library spells it: ``nadam`` -> ``NAdam``."""
    ending = _NAME_ENDS_WITH.get(kind, "")
    theirs = [known for known in dir(module) if _is_public_callable(module, known) and known.endswith(ending)]
    if name in theirs:
        return name
    for known in theirs:
        if _folded(name) in (_folded(known), _folded(known.removesuffix(ending))):
            return known
    elsewhere = getattr(module, "elsewhere", None)  # of our zoo: torchvision has it, for another purpose
    if kind == "model" and elsewhere is not None and (said := elsewhere(name)):
        raise ConfigError(said)
    known_here = ", ".join([*SHORT[kind]] or [known.removesuffix(ending) for known in theirs])
    near = did_you_mean(name, [*SHORT[kind], *(known.removesuffix("_") for known in theirs)])
    raise ConfigError(
        f"there is no {kind} '{one_line(name, 60)}'{near or f'; short names are {known_here}, any other is package.module:Name'}"
    )


def _is_public_callable(module: ModuleType, name: str) -> bool:
    return not name.startswith("_") and callable(getattr(module, name))


def _folded(name: str) -> str:
    return name.replace("_", "").lower()


def _import(module_name: str) -> ModuleType:
    """Import a module; whatever goes wrong in it is one line.

    Raises:
        ConfigError: it is not there, or its code failed.
    """
    try:
        if module_name.split(".")[0] == "torchvision":
            _open_torchvision()
        try:
            return importlib.import_module(module_name)
        except RuntimeError as error:
            if "torchvision::" not in str(error):
                raise
            _open_torchvision()  # the user's module imports torchvision where its operators cannot be loaded
            return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if module_name == missing or module_name.startswith(f"{missing}."):
            raise ConfigError(f"there is no module '{missing}'{_near_module(missing)}") from error
        raise ConfigError(f"importing {module_name} failed{_last_line(error)}: {one_line(str(error), 120)}") from error
    except OstinatoError as error:
        raise ConfigError(f"importing {module_name} failed: {error}") from error
    except (Exception, SystemExit) as error:
        text = one_line(f"{type(error).__name__}: {error}", 160)
        raise ConfigError(f"importing {module_name} failed{_last_line(error)}: {text}") from error


def _open_torchvision() -> None:
    importlib.import_module("trainer.vision").import_torchvision()  # by name: this file itself must stay free of torch


def _near_module(missing: str) -> str:
    """A module beside the missing one with nearly its name."""
    package, _, last = missing.rpartition(".")
    if not package:
        hint = did_you_mean(last, ["torch", "torchvision", "trainer", *(module.name for module in pkgutil.iter_modules(["."]))])
        return hint or " on the path; it must be installed, or lie in the current folder"
    known = pkgutil.iter_modules(getattr(importlib.import_module(package), "__path__", []))
    return did_you_mean(missing, [f"{package}.{module.name}" for module in known])


def _last_line(error: BaseException) -> str:
    """`` (file.py:12)``, where an imported module failed."""
    if isinstance(error, SyntaxError):
        return ""  # its text says it
    frame = traceback.extract_tb(error.__traceback__)[-1]
    outside = "importlib" in frame.filename or frame.filename == __file__
    return "" if outside else f" ({one_line(frame.filename, 120)}:{frame.lineno})"
