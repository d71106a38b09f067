"""A model and a data set that break in a chosen way, on one rank, after some calls: what a launcher must tell apart."""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import sys
import tempfile
from collections.abc import Callable

import torch

from tests.support.noisy import NoisyImages, NoisyNet


def fail(fault: str) -> None:
    """Break; an empty name does nothing."""
    if fault:
        FAULTS[fault]()


def exception() -> None:
    raise ValueError("the seventh layer does not fit")


def memory_error() -> None:
    raise MemoryError("no room for the attention matrix")


def recursion() -> None:
    recursion()


def eat_memory() -> None:
    eaten = []
    while True:
        eaten.append(b"x" * (64 << 20))


def loop() -> None:
    while True:
        pass


def bus_error() -> None:
    """Read beyond the end of a file that was cut after it was mapped."""
    with tempfile.TemporaryFile() as file:
        file.truncate(1 << 16)
        mapped = mmap.mmap(file.fileno(), 1 << 16)
        file.truncate(0)
        print(mapped[4096])


FAULTS: dict[str, Callable[[], object]] = {
    "exception": exception,
    "memory-error": memory_error,
    "recursion": recursion,
    "shape": lambda: torch.zeros(3, 4) @ torch.zeros(5, 6),
    "exit": lambda: sys.exit(0),
    "silent-exit": lambda: os._exit(7),
    "segfault": lambda: ctypes.string_at(0),
    "abort": os.abort,
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "bus-error": bus_error,
    "eat-memory": eat_memory,
    "loop": loop,
}


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
