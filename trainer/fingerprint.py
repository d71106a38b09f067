"""Hashes of weights: a cheap 64-bit one for every so many steps, and SHA-256 for what is promised."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from trainer.seed import mix

_BLOCK = 4096
_INTEGERS = {1: torch.uint8, 2: torch.int16}  # by bytes of an element; larger ones are split into int32
_weights: dict[torch.device, torch.Tensor] = {}


def quick(tensors: Iterable[torch.Tensor]) -> str:
    """A 64-bit fingerprint of some tensors' bits, 16 hexadecimal digits.

    Each tensor's bits are read as integers of 32 bits or less, multiplied with fixed odd numbers by position, and added modulo 2^64, which
    gives the same sum in any order and on any device. Were they of 64 bits, two flipped signs would cancel: 2^63 times any odd number is
    2^63. It finds accidents, not adversaries.
    """
    sums = [_weighted_sum(tensor.detach()) for tensor in tensors]
    key = 0
    for value in torch.stack(sums).tolist() if sums else []:
        key = mix(key, value)
    return f"{key:016x}"


def _weighted_sum(tensor: torch.Tensor) -> torch.Tensor:
    flat = _plain(tensor).view(_INTEGERS.get(tensor.element_size(), torch.int32))
    device = flat.device
    if device not in _weights:
        generator = torch.Generator().manual_seed(20260101)
        _weights[device] = (torch.randint(-(2**62), 2**62, (_BLOCK,), generator=generator) * 2 + 1).to(device)
    weights = _weights[device]
    whole = flat.numel() // _BLOCK
    # The row's number goes in too, so that exchanged rows show; the rest is the last row.
    total = (flat[whole * _BLOCK :].to(torch.int64) * weights[: flat.numel() - whole * _BLOCK]).sum() * (2 * whole + 1)
    if whole:
        rows = flat[: whole * _BLOCK].view(whole, _BLOCK).to(torch.int64)
        by_row = (rows * weights).sum(1)
        total = total + (by_row * (2 * torch.arange(whole, device=device) + 1)).sum()
    return total


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    """One-dimensional and contiguous, its bytes the values: a conjugate or negative view only notes that it is one."""
    return tensor.resolve_conj().resolve_neg().contiguous().view(-1)


def sha256(state: Mapping[str, Any]) -> str:
    """SHA-256 over the names, dtypes, shapes and bytes of all tensors in nested dicts and lists, in order of the names."""
    digest = hashlib.sha256()
    for name, tensor in named_tensors(state):
        value = tensor.detach().cpu()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(_plain(value).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def named_tensors(value: Any, prefix: str = "") -> Iterable[tuple[str, torch.Tensor]]:
    """Every tensor in nested dicts and lists with its path, in order of the paths' parts."""
    if isinstance(value, torch.Tensor):
        yield prefix, value
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            yield from named_tensors(value[key], f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from named_tensors(item, f"{prefix}.{i}")
