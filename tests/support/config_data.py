"""A folder in which every file of configs/ can be started as it stands: its data in their true formats, small and made up."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from tests.support.cifar_files import write_cifar10, write_mnist
from tests.support.exact import Result, go_on
from tests.support.image_files import write_folder
from trainer.config.load import load
from trainer.config.schema import Config

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))

# What makes a config small. Batches of 8 for two virtual ranks or four; the recipe itself stays.
_SMALL = ("data.batch_size=8", "data.eval_batch_size=8", "data.loader_workers=0", "log.tensorboard=false", "log.every_steps=1")
_MACHINE = ("hardware.device=cpu", "hardware.threads=1", "log.fingerprint_every=1")
_PIXELS = ("data.train_transforms.0.size=32", "data.eval_transforms.0.size=32", "data.eval_transforms.0.resize=36")
_OF_CONFIG: dict[str, tuple[str, ...]] = {
    "imagenet": (*_PIXELS, "model.num_classes=2"),
    "finetune": (*_PIXELS, "start.pretrained=data/resnet18.pth"),
    "fake": ("data.train.size=64", "data.valid.size=16"),
    "char_lm": ("data.train.stride=48",),
    "user_model": ("data.train.points=12", "data.valid.points=5"),
}


def write_data(folder: Path) -> None:
    """Write ``folder/data`` for all configs, and put examples/ beside it."""
    data = folder / "data"
    write_cifar10(data, per_batch=8)
    write_mnist(data, "MNIST")
    write_mnist(data, "FashionMNIST")
    for name in ("hymenoptera_data", "imagenet"):
        for part, count in (("train", 16), ("val", 4)):
            write_folder(data / name / part, per_class=count, size=(44, 40))
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    from examples.diabetes import write

    write(data)
    _write_weights(data / "resnet18.pth")


def _write_weights(path: Path) -> None:
    """A file as torchvision's: ResNet-18 for 1000 classes, with weights that no fresh model has."""
    import torch

    from trainer.vision import import_torchvision

    torch.manual_seed(5)
    torch.save(import_torchvision().models.resnet18().state_dict(), path)


def small(path: Path, virtual_ranks: int, *more: str) -> Config:
    """A config with less data in a batch and fewer pixels in an image."""
    own = _OF_CONFIG.get(path.stem, ())
    return load(path, [*_SMALL, *_MACHINE, *own, f"train.virtual_ranks={virtual_ranks}", *more]).config


def go_on_in(folder: Path, config: Config, run: str, stop_at: int = 10**9) -> Result:
    """`go_on` in a folder that holds the config's data; for `run_ranks`."""
    os.chdir(folder)
    cifar = folder / "data" / "cifar-10-batches-py"
    if cifar.is_dir():
        _accept_made_up_cifar(cifar)
    return go_on(config, run, stop_at)


def _accept_made_up_cifar(folder: Path) -> None:
    """Tell torchvision the hashes of what was written: it knows only those of the real images. In this process, which ends soon."""
    import hashlib

    from trainer.vision import import_torchvision

    import_torchvision()
    from torchvision.datasets import CIFAR10

    def listed(name: str) -> list[str]:
        return [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]

    known: Any = CIFAR10
    known.train_list = [listed(f"data_batch_{number}") for number in range(1, 6)]
    known.test_list = [listed("test_batch")]
    known.meta = {"filename": "batches.meta", "key": "label_names", "md5": listed("batches.meta")[1]}
