"""Keys of samples: what a data set draws at random is a function of (seed, epoch, sample index) and of nothing else."""

from __future__ import annotations

import random

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.seed import mix

# First words of keys, beside WEIGHTS = 1 and STEP = 2 of `trainer.seed`.
ORDER = 3
SAMPLE = 4
SPLIT = 16  # a share of a data set

EVALUATION = -1  # the "epoch" of every evaluation: it sees each sample the same way each time

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_30, _27, _31 = np.uint64(30), np.uint64(27), np.uint64(31)


def sample_keys(indices: NDArray[np.int64], seed: int, epoch: int) -> NDArray[np.uint64]:
    """One 64-bit key for each sample: element `index` of the SplitMix64 stream that (seed, epoch) starts.

    Args:
        indices: sample numbers, shape (n,).
        seed: the job's seed.
        epoch: the epoch, or `EVALUATION`.
    """
    keys = indices.astype(np.uint64)
    keys += np.uint64(1)
    keys *= _GAMMA
    keys += np.uint64(mix(SAMPLE, seed, epoch))
    keys ^= keys >> _30
    keys *= _FIRST
    keys ^= keys >> _27
    keys *= _SECOND
    keys ^= keys >> _31
    return keys


def seed_sample(key: int) -> None:
    """Seed python's, numpy's and torch's CPU generator for one sample (about 6 µs).

    `torch.manual_seed` would look at every backend (100 µs). The seeds of numpy and torch are different halves of the
    key: both are a Mersenne Twister that takes 32 bits, so with equal seeds they would draw equal numbers.
    """
    random.seed(key)
    np.random.seed(key >> 32)
    torch.default_generator.manual_seed(key & 0xFFFFFFFF)
