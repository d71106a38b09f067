"""A data set with one of many faults, and a sound one; used by name in configs, where the current folder need not be ours."""

from __future__ import annotations

from typing import Any

import torch

AT = 7  # the sample that is not as it should be

# What each fault must make the run say.
SAID = {
    "empty": "has no samples|0 samples",
    "tiny": "less than",
    "lengthless": "its length is not known",
    "negative": "its length is not known",
    "length raises": "its length is not known",
    "length is text": "its length is not known",
    "short": "cannot be read: IndexError",
    "raises": f"sample {AT} cannot be read: ValueError: no such thing",
    "torn file": f"sample {AT} \\(images/7.png\\) cannot be read: OSError",
    "three": f"sample {AT} cannot be read: TypeError: it is a tuple of 3",
    "no pair": f"sample {AT} cannot be read: TypeError: it is a Tensor",
    "nothing": f"sample {AT} cannot be read: TypeError: it is a NoneType",
    "odd shape": "does not go into one batch with",
    "objects": "is of a kind that no batch can be made of",
    "wrong shape": "shapes|size|match|channels",
    "label beyond": f"sample {AT} has label 12",
    "label below": f"sample {AT} has label -3",
    "half a label": f"sample {AT} has label 0.5|Long",
    "hidden label": "12|label",
    "nan": "NaN|nan|not finite|finite",
    "infinite": "NaN|nan|not finite|finite|inf",
    "exits": "exit",
}


class BadSet:
    """64 inputs for 10 classes.

    Args:
        fault: a key of ``SAID``, or ``good``.
        size: samples.
    """

    def __init__(self, fault: str = "good", size: int = 60) -> None:
        assert fault in SAID or fault == "good", fault
        self.fault = fault
        self.size = {"empty": 0, "tiny": 3}.get(fault, size)
        self.inputs = torch.randn(size, 64, generator=torch.Generator().manual_seed(1))
        labels = [float(i % 10) if fault == "half a label" else i % 10 for i in range(size)]
        labels[AT] = {"label beyond": 12, "label below": -3, "half a label": 0.5, "hidden label": 12}.get(fault, 0)
        if fault != "hidden label":
            self.targets = labels
        self.hidden = labels

    def __len__(self) -> int:
        if self.fault == "lengthless":
            raise TypeError("object of type 'BadSet' has no len()")
        if self.fault == "length raises":
            raise RuntimeError("the table is not open")
        if self.fault == "length is text":
            return "60"  # type: ignore[return-value]
        return -1 if self.fault == "negative" else self.size

    def __getitem__(self, index: int) -> Any:
        value, target = self.inputs[index], self.hidden[index]
        if self.fault == "short" and index >= self.size - 20:
            raise IndexError("list index out of range")
        if self.fault == "wrong shape":
            return value[:50], target
        if self.fault in ("nan", "infinite"):
            return value * float("nan" if self.fault == "nan" else "inf"), target
        if self.fault == "objects":
            return self, target
        return self._bad(value, target) if index == AT else (value, target)

    def _bad(self, value: torch.Tensor, target: float) -> Any:
        if self.fault == "raises":
            raise ValueError("no such thing\nand a second line")
        if self.fault == "torn file":
            raise OSError(5, "Input/output error", "images/7.png")
        if self.fault == "exits":
            raise SystemExit(0)
        odd = {"three": (value, target, 1), "no pair": value.view(2, 32), "nothing": None, "odd shape": (value[:50], target)}
        return odd.get(self.fault, (value, target))
