"""A copy of the training state in memory that is kept from save to save: the only thing for which training stops."""

from __future__ import annotations

import copy
from typing import Any

import torch

Path = tuple[Any, ...]
"""The keys that lead to a tensor; a tuple, because 1 and "1" are two keys."""


class Staging:
    """Room for one copy of a state, made at the first copy.

    The room costs as much memory as a checkpoint on the disk. For a state on a GPU it is page-locked, so that all tensors travel at once.
    Names for the same memory (tied weights) stay names for the same memory.
    """

    def __init__(self) -> None:
        self._room: dict[Path, torch.Tensor] = {}
        self._used: dict[Path, torch.Tensor] = {}
        self._seen: dict[tuple[Any, ...], torch.Tensor] = {}
        self._devices: set[torch.device] = set()

    @torch.no_grad()
    def copy(self, state: dict[str, Any]) -> dict[str, Any]:
        """A state whose tensors are in the room; it is good until the next copy."""
        self._used, self._seen, self._devices = {}, {}, set()
        found: dict[str, Any] = self._copied(state, ())
        for device in self._devices:
            torch.cuda.synchronize(device)
        self._room = self._used  # room that nothing needs any more is given back
        self._seen = {}
        return found

    def _copied(self, value: Any, path: Path) -> Any:
        if isinstance(value, torch.Tensor):
            return self._staged(value.detach(), path)
        if isinstance(value, dict):
            found = copy.copy(value)  # keeps the kind, and an OrderedDict's attributes
            for key, item in value.items():
                found[key] = self._copied(item, (*path, key))
            return found
        if isinstance(value, (list, tuple)):
            return type(value)(self._copied(item, (*path, i)) for i, item in enumerate(value))
        return value

    def _staged(self, tensor: torch.Tensor, path: Path) -> torch.Tensor:
        if tensor.layout != torch.strided or tensor.is_quantized:
            return tensor.cpu().clone()
        key = (tensor.device, tensor.data_ptr(), tensor.storage_offset(), tensor.dtype, tensor.shape, tensor.stride())
        if tensor.numel() and key in self._seen:
            return self._seen[key]
        room = self._room.get(path)
        if room is None or not _fits(room, tensor):
            room = _room_for(tensor)
        room.copy_(tensor, non_blocking=True)
        if tensor.is_cuda:
            self._devices.add(tensor.device)
        self._used[path] = self._seen[key] = room
        return room


def _fits(room: torch.Tensor, tensor: torch.Tensor) -> bool:
    return room.dtype == tensor.dtype and room.shape == tensor.shape and (room.stride() == tensor.stride() or not _dense(tensor))


def _dense(tensor: torch.Tensor) -> bool:
    return torch.empty_like(tensor, device="meta").stride() == tensor.stride()


def _room_for(tensor: torch.Tensor) -> torch.Tensor:
    """CPU memory for a tensor, in the same order of dimensions."""
    if tensor.is_cuda:
        try:
            return torch.empty_like(tensor, device="cpu", pin_memory=True)
        except RuntimeError:  # no more memory may be page-locked: slower, and right
            pass
    return torch.empty_like(tensor, device="cpu")
