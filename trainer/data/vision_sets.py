"""torchvision's data sets by short name: read from a folder, fetched only when the config says so."""

from __future__ import annotations

import fcntl
import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trainer.data.images import image_folder
from trainer.errors import TrainingError
from trainer.vision import import_torchvision

__all__ = ["cifar10", "cifar100", "fashion_mnist", "image_folder", "is_torchvisions", "make_set", "mnist", "open_set"]


def cifar10(root: str = "data", train: bool = True, download: bool = False) -> Any:
    """CIFAR-10: 50,000 training and 10,000 test images, 32×32, in ten classes (163 MB to download).

    Args:
        root: the folder that holds (or gets) ``cifar-10-batches-py``.
        train: the training set, else the test set.
        download: fetch the files if they are missing.
    """
    return _open("CIFAR10", root, train, download)


def cifar100(root: str = "data", train: bool = True, download: bool = False) -> Any:
    """CIFAR-100: as CIFAR-10, in a hundred classes (161 MB to download); arguments as `cifar10`."""
    return _open("CIFAR100", root, train, download)


def mnist(root: str = "data", train: bool = True, download: bool = False) -> Any:
    """MNIST: 60,000 training and 10,000 test digits, 28×28 (11 MB to download); arguments as `cifar10`."""
    return _open("MNIST", root, train, download)


def fashion_mnist(root: str = "data", train: bool = True, download: bool = False) -> Any:
    """Fashion-MNIST: as MNIST, ten kinds of clothes (30 MB to download); arguments as `cifar10`."""
    return _open("FashionMNIST", root, train, download)


def _class(name: str) -> Callable[..., Any]:
    import_torchvision()
    found: Callable[..., Any] = getattr(importlib.import_module("torchvision.datasets"), name)
    return found


def _open(name: str, root: str, train: bool, download: bool) -> Any:
    return open_set(_class(name), {"root": root, "train": train, "download": download})


def is_torchvisions(called: Callable[..., Any]) -> bool:
    """Whether a target is one of torchvision's data sets, which `open_set` makes."""
    return str(getattr(called, "__module__", "")).startswith("torchvision.datasets")


def make_set(called: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """Make any data set: torchvision's by `open_set`, others by calling them."""
    return open_set(called, arguments) if is_torchvisions(called) else called(**arguments)


def open_set(called: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """Make one of torchvision's data sets; where it must be fetched, one process of this machine does it and the others find it done.

    Args:
        called: the data set's class.
        arguments: its arguments: ``root``, ``train`` or ``split``, ``download`` and so on.

    Raises:
        TrainingError: its files are not there, or cannot be fetched.
    """
    name = str(getattr(called, "__name__", called))
    wanted = {key: value for key, value in arguments.items() if key != "download"}
    folder = Path(arguments.get("root") or ".").expanduser().absolute()
    try:
        return called(**wanted)
    except (RuntimeError, OSError) as missing:
        if not arguments.get("download"):
            raise TrainingError(_not_there(called, name, folder, missing)) from missing
    with _alone(folder, name):
        try:
            return called(**wanted)
        except (RuntimeError, OSError):
            print(f"{name}: not in {folder}; downloading it there, once", flush=True)
        try:
            return called(**wanted, download=True)
        except (OSError, RuntimeError) as error:
            raise TrainingError(
                f"{name}: download to {folder} failed: {_line(error)}; put the files there by hand, or try again"
            ) from error


def _not_there(called: Callable[..., Any], name: str, folder: Path, fault: Exception) -> str:
    """Why a data set cannot be opened, and what to do."""
    plainly_missing = isinstance(fault, FileNotFoundError) or "not found" in str(fault).lower()
    if "download" not in inspect.signature(called).parameters or "pip install" in str(fault) or not plainly_missing:
        return f"{name}: {folder}: {_line(fault)}"
    return f"{name}: not in {folder}, or damaged there; set download: true to fetch it, or root to where it is"


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


@contextmanager
def _alone(folder: Path, name: str) -> Iterator[None]:
    """Hold a lock in the folder that ends with its holder, however it ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / f".{name}.lock", "w")  # noqa: SIM115 - held until the caller is done
    except OSError as error:
        raise TrainingError(f"{name}: {folder} cannot be written: {error.strerror}; set root to a folder that can") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
