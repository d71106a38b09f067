"""The one door to torchvision: it also opens when torchvision's compiled operators cannot be loaded.

torchvision from the package registry is built for CUDA. Beside a CPU-only torch its C++ library does not load, and
``import torchvision`` dies although models, data sets and transforms need none of those operators.
"""

from __future__ import annotations

import importlib
from types import ModuleType

import torch

from trainer.errors import TrainingError

# The operators for which torchvision registers a fake kernel at import, whether or not they exist.
_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_declared: list[torch.library.Library] = []  # a Library takes its schemas with it when it is collected


def import_torchvision() -> ModuleType:
    """Import torchvision, declaring the operators that it misses if its import needs them.

    Returns:
        The module; its submodules are imported as usual afterwards.

    Raises:
        TrainingError: torchvision is not installed, or does not belong to this torch.
    """
    try:
        return importlib.import_module("torchvision")
    except ModuleNotFoundError as missing:
        if missing.name != "torchvision":
            raise _refused(missing) from missing
        raise TrainingError("torchvision is not installed in this environment; pip install torchvision") from missing
    except (ImportError, RuntimeError) as error:
        if "torchvision::nms does not exist" not in str(error):
            raise _refused(error) from error
    _declare_operators()
    try:
        return importlib.import_module("torchvision")
    except (ImportError, RuntimeError) as error:
        raise _refused(error) from error


def operators_were_declared() -> bool:
    """Whether its import needed that here: then its compiled operators are missing."""
    return bool(_declared)


def _declare_operators() -> None:
    if not _declared:
        library = torch.library.Library("torchvision", "DEF")
        for schema in _SCHEMAS:
            library.define(schema)
        _declared.append(library)


def _refused(error: BaseException) -> TrainingError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return TrainingError(
        f"torchvision cannot be imported beside torch {torch.__version__}: {reason}; install the torchvision release made for this torch"
    )
