"""Writes folders in the on-disk formats of CIFAR-10 (pickled batches), MNIST and its kin (bytes behind a header), and SVHN (MATLAB)."""

from __future__ import annotations

import hashlib
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def write_cifar10(root: Path, per_batch: int = 10, seed: int = 0) -> dict[str, str]:
    """Write ``root/cifar-10-batches-py`` with `per_batch` images a batch.

    Returns:
        The md5 of each file, by name.
    """
    rng = np.random.default_rng(seed)
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    for name in names:
        labels = rng.integers(0, 10, per_batch)
        value = {
            "batch_label": name,
            "labels": labels.tolist(),
            "data": rng.integers(0, 256, (per_batch, 3072), dtype=np.uint8),
            "filenames": [f"{name}_{i}.png" for i in range(per_batch)],
        }
        (folder / name).write_bytes(pickle.dumps(value, protocol=2))
    meta = {"label_names": CLASSES, "num_cases_per_batch": per_batch, "num_vis": 3072}
    (folder / "batches.meta").write_bytes(pickle.dumps(meta, protocol=2))
    return {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def accept_cifar10(monkeypatch: pytest.MonkeyPatch, hashes: dict[str, str]) -> None:
    """Tell torchvision the hashes of the files written here: it knows only those of the real images."""
    from trainer.vision import import_torchvision

    import_torchvision()
    from torchvision.datasets import CIFAR10

    monkeypatch.setattr(CIFAR10, "train_list", [[f"data_batch_{i}", hashes[f"data_batch_{i}"]] for i in range(1, 6)])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", hashes["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", {"filename": "batches.meta", "key": "label_names", "md5": hashes["batches.meta"]})


def write_mnist(root: Path, name: str = "FashionMNIST", train: int = 40, test: int = 20, seed: int = 0) -> None:
    """Write ``root/NAME/raw`` in MNIST's format: four files of bytes behind their headers."""
    rng = np.random.default_rng(seed)
    folder = root / name / "raw"
    folder.mkdir(parents=True)
    for prefix, count in (("train", train), ("t10k", test)):
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 0x803, count, 28, 28) + images.tobytes())
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, count) + labels.tobytes())


def write_svhn(root: Path, monkeypatch: pytest.MonkeyPatch, train: int = 12, test: int = 8) -> None:
    """Write SVHN's two MATLAB files, and tell torchvision their hashes."""
    from scipy.io import savemat

    from trainer.vision import import_torchvision

    import_torchvision()
    from torchvision.datasets import SVHN

    rng = np.random.default_rng(0)
    root.mkdir(parents=True, exist_ok=True)
    known = {}
    for split, count in (("train", train), ("test", test)):
        file = f"{split}_32x32.mat"
        pictures = rng.integers(0, 256, (32, 32, 3, count), dtype=np.uint8)
        savemat(root / file, {"X": pictures, "y": (np.arange(count) % 10 + 1).astype(np.uint8).reshape(-1, 1)})
        known[split] = ["http://127.0.0.1:9/" + file, file, hashlib.md5((root / file).read_bytes()).hexdigest()]
    monkeypatch.setattr(SVHN, "split_list", known)
