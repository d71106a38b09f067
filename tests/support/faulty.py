"""A model and a data set that break in a chosen way, on one rank, after some calls: what a launcher must tell apart."""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import sys
import tempfile

import torch

from tests.support.noisy import NoisyImages, NoisyNet


def fail(fault: str) -> None:
    """Break."""
    if fault == "exception":
        raise ValueError("the seventh layer does not fit")
    if fault == "memory-error":
        raise MemoryError("no room for the attention matrix")
    if fault == "recursion":
        fail(fault)
    if fault == "shape":
        torch.zeros(3, 4) @ torch.zeros(5, 6)
    if fault == "exit":
        sys.exit(0)
    if fault == "silent-exit":
        os._exit(7)
    if fault == "segfault":
        ctypes.string_at(0)
    if fault == "abort":
        os.abort()
    if fault == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "bus-error":
        bus_error()
    if fault == "eat-memory":
        eaten = []
        while True:
            eaten.append(b"x" * (16 << 20))
    if fault == "loop":
        while True:
            pass


def bus_error() -> None:
    """Read beyond the end of a file that was cut after it was mapped."""
    with tempfile.TemporaryFile() as file:
        file.truncate(1 << 16)
        mapped = mmap.mmap(file.fileno(), 1 << 16)
        file.truncate(0)
        print(mapped[4096])


class FaultyNet(NoisyNet):
    """Breaks in the forward pass of one rank."""

    def __init__(self, fault: str = "", rank: int = 1, call: int = 3) -> None:
        super().__init__()
        self.fault, self.rank, self.call, self.calls = fault, rank, call, 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.calls += self.training
        if self.calls == self.call and int(os.environ.get("RANK", "0")) == self.rank:
            fail(self.fault)
        return super().forward(images)


class FaultyImages(NoisyImages):
    """Breaks when one sample is read."""

    def __init__(self, fault: str = "", index: int = 33, size: int = 200, label: int | None = None) -> None:
        super().__init__(size)
        self.fault, self.index = fault, index
        if label is not None:
            self.targets[index] = label

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        if index == self.index:
            fail(self.fault)
        return super().__getitem__(index)


class IdleNet(NoisyNet):
    """Has a parameter that its forward pass does not use."""

    def __init__(self) -> None:
        super().__init__()
        self.register_parameter("spare", torch.nn.Parameter(torch.zeros(3)))
