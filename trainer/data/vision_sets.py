"""torchvision's data sets by short name: read from a folder, fetched only when the config says so."""

from __future__ import annotations

import fcntl
import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trainer.errors import TrainingError
from trainer.vision import import_torchvision


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


def image_folder(root: str) -> Any:
    """Images in one folder a class, ``root/cat/1.jpg``: ImageNet's layout, and most people's own data.

    Args:
        root: the folder that holds the classes' folders.
    """
    try:
        return _class("ImageFolder")(root)
    except FileNotFoundError as missing:
        raise TrainingError(f"image_folder: {Path(root).absolute()}: {missing}; expected one folder of images a class") from missing


def _class(name: str) -> Callable[..., Any]:
    import_torchvision()
    found: Callable[..., Any] = getattr(importlib.import_module("torchvision.datasets"), name)
    return found


def _open(name: str, root: str, train: bool, download: bool) -> Any:
    make = _class(name)
    folder = Path(root).absolute()
    try:
        return make(root, train=train)
    except RuntimeError as missing:
        if not download:
            raise TrainingError(
                f"{name}: not in {folder}, or damaged there; set download: true to fetch it, or root to where it is"
            ) from missing
    with _alone(folder, name):  # every worker of this machine comes here at once: one fetches, the others find it done
        try:
            return make(root, train=train)
        except RuntimeError:
            print(f"{name}: not in {folder}; downloading it there, once", flush=True)
        try:
            return make(root, train=train, download=True)
        except (OSError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise TrainingError(f"{name}: download to {folder} failed: {reason}; put the files there by hand, or try again") from error


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
