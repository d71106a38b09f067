"""Randomness keyed by position: a key is a pure function of where the job is, so no generator's state is ever saved.

`mix` is SplitMix64's finaliser (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA 2014)
applied word by word.
"""

from __future__ import annotations

import random

import numpy as np
import torch

from trainer.config.schema import HardwareSection

_MASK = (1 << 64) - 1
_GAMMA = 0x9E3779B97F4A7C15

# The first word of each key says what it is for, so that no two uses share a stream.
WEIGHTS = 1
STEP = 2


def mix(*words: int) -> int:
    """A 64-bit key of some whole numbers; any change of any word changes about half of its bits."""
    key = 0
    for word in words:
        key = (key ^ (word & _MASK)) + _GAMMA & _MASK
        key = (key ^ (key >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
        key = (key ^ (key >> 27)) * 0x94D049BB133111EB & _MASK
        key ^= key >> 31
    return key


def seed_everything(key: int) -> None:
    """Seed python's, numpy's and torch's global generators (all devices) from one 64-bit key."""
    random.seed(key)
    np.random.seed(key & 0xFFFFFFFF)
    torch.manual_seed(key & (_MASK >> 1))


def seed_micro_batch(seed: int, step: int, virtual_rank: int, device: torch.device) -> None:
    """Key what is drawn during one forward and backward pass: dropout, stochastic depth, MixUp.

    It is on the hot path, so it seeds the default generators directly: `torch.manual_seed` looks at every backend.
    """
    key = mix(STEP, seed, step, virtual_rank)
    random.seed(key)
    np.random.seed(key & 0xFFFFFFFF)
    torch.default_generator.manual_seed(key & (_MASK >> 1))
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(key & (_MASK >> 1))


def set_arithmetic(hardware: HardwareSection, threads: int) -> None:
    """Fix every switch that changes bits: threads, deterministic algorithms, cuDNN, TF32."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(hardware.deterministic)
    torch.backends.cudnn.deterministic = hardware.cudnn_deterministic
    torch.backends.cudnn.benchmark = hardware.cudnn_benchmark
    torch.backends.cudnn.allow_tf32 = hardware.tf32
    torch.backends.cuda.matmul.allow_tf32 = hardware.tf32
