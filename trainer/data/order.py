"""The order of samples: a keyed permutation computed by index, so that nothing is stored and any position is one step away.

A permutation of 0 … n-1 is a Feistel network over pairs (x, y) with x < a, y < b and a·b just above n (Black and Rogaway,
Ciphers with Arbitrary Finite Domains, 2002): each round adds a keyed hash of one half to the other, which can always be
undone. What falls outside 0 … n-1 goes through again until it falls inside ("cycle-walking"); a·b exceeds n by less
than about sqrt(n), so hardly any does.

::

    order(seed, epoch)   0 ········ B ········ 2B ········      step k has [k·B, (k+1)·B)
    step k               v=0 | v=1 | … | v=V-1                  virtual rank v has the v-th slice, B/V long
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DistributedSampler

from trainer.data.keys import ORDER
from trainer.errors import TrainingError
from trainer.seed import mix

Indices = NDArray[np.int64]
Words = NDArray[np.uint64]

BLOCK = 16384  # positions permuted at once: numpy's cost of a call is spread over them, and they stay in the L2 cache
ROUNDS = 16  # 8 leave the 120 orders of 5 samples visibly uneven, 16 do not; a sample costs some 25 ns

_FIRST = np.uint64(0xFF51AFD7ED558CCD)  # MurmurHash3's finaliser
_SECOND = np.uint64(0xC4CEB9FE1A85EC53)
_HALF = np.uint64(32)


def permute(indices: Indices, n: int, seed: int, epoch: int) -> Indices:
    """Where a keyed permutation of 0 … n-1 sends some positions.

    Args:
        indices: positions, each in 0 … n-1, shape (m,).
        n: the size of the set, up to 2**62.
        seed: the job's seed.
        epoch: another permutation for each.

    Returns:
        Sample numbers, shape (m,), all different where the positions are.
    """
    a = math.isqrt(max(n, 1) - 1) + 1  # ceil(sqrt(n))
    a += a % 2  # were both odd, each round would be an even permutation: half of all orders would be out of reach
    b = -(-n // a)
    keys = [np.uint64(mix(ORDER, seed, epoch, i)) for i in range(ROUNDS)]
    result = np.empty(len(indices), dtype=np.int64)
    for start in range(0, len(indices), BLOCK):
        words = _rounds(indices[start : start + BLOCK].astype(np.uint64), a, b, keys)
        while a * b > n and len(outside := np.nonzero(words >= n)[0]):
            words[outside] = _rounds(words[outside], a, b, keys)
        result[start : start + BLOCK] = words.astype(np.int64)
    return result


def _rounds(words: Words, a: int, b: int, keys: list[np.uint64]) -> Words:
    """One pass through the network: a bijection of 0 … a·b-1."""
    width = np.uint64(a)
    y: Words = words // width
    x = words - y * width
    for i, key in enumerate(keys):
        if i % 2 == 0:
            _add_hash(x, y, key, width)
        else:
            _add_hash(y, x, key, np.uint64(b))
    y *= width
    y += x
    return y


def _add_hash(target: Words, source: Words, key: np.uint64, modulus: np.uint64) -> None:
    """Add a keyed hash of `source` to `target`, modulo `modulus` < 2**32, in place."""
    word = source + key
    word *= _FIRST
    word ^= word >> _HALF
    word *= _SECOND
    word >>= _HALF
    word *= modulus  # the upper 32 bits as a fraction of 2**32, times the modulus: no division
    word >>= _HALF
    target += word
    np.subtract(target, modulus, out=word)
    np.minimum(target, word, out=target)  # below the modulus the difference wraps round to a huge number


class EpochOrder:
    """The order of one epoch, by position; one block of it is in memory.

    Args:
        n: the size of the set.
        seed: the job's seed.
        epoch: the epoch.
        shuffle: False for 0, 1, 2, …
    """

    def __init__(self, n: int, seed: int, epoch: int, shuffle: bool = True) -> None:
        self.n = n
        self.seed = seed
        self.epoch = epoch
        self.shuffle = shuffle
        self._block: tuple[int, Indices] = (-1, np.empty(0, dtype=np.int64))

    def slice(self, start: int, stop: int) -> Indices:
        """The sample numbers at positions start … stop-1, shape (stop - start,)."""
        if not 0 <= start <= stop <= self.n:
            raise IndexError(f"positions {start} to {stop} of an epoch of {self.n} samples")
        if not self.shuffle:
            return np.arange(start, stop, dtype=np.int64)
        if stop - start > BLOCK:
            return permute(np.arange(start, stop, dtype=np.int64), self.n, self.seed, self.epoch)
        first, last = start // BLOCK, max(stop - 1, start) // BLOCK
        offset = first * BLOCK
        head = self._of_block(first)[start - offset : stop - offset]
        if first == last:
            return np.array(head)  # a copy: the caller may write in it
        return np.concatenate((head, self._of_block(last)[: stop - last * BLOCK]))

    def _of_block(self, number: int) -> Indices:
        held, values = self._block
        if held != number:
            positions = np.arange(number * BLOCK, min((number + 1) * BLOCK, self.n), dtype=np.int64)
            values = permute(positions, self.n, self.seed, self.epoch)
            self._block = (number, values)
        return values


@lru_cache(maxsize=4)
def _epoch_order(n: int, seed: int, epoch: int, shuffle: bool) -> EpochOrder:
    return EpochOrder(n, seed, epoch, shuffle)


@dataclass(frozen=True)
class BatchPlan:
    """Which samples each update uses, and which virtual rank has which of them.

    Raises:
        TrainingError: the batch does not divide over the virtual ranks, or the set has not one whole batch.
    """

    n: int
    """Samples in the set."""
    batch_size: int
    """Samples in an update of the whole job."""
    virtual_ranks: int
    """Virtual ranks of the job."""
    seed: int
    """The job's seed."""
    drop_last: bool = True
    """Drop an epoch's last incomplete batch."""
    shuffle: bool = True
    """False: the samples by number, each epoch alike."""

    def __post_init__(self) -> None:
        batch, ranks = self.batch_size, self.virtual_ranks
        if batch % ranks:
            below, above = batch // ranks * ranks, (batch // ranks + 1) * ranks
            instead = f"{below} or {above}" if below else f"{above}"
            raise TrainingError(f"data.batch_size {batch} does not divide over {ranks} virtual ranks; use {instead}")
        if self.steps_per_epoch == 0:
            known = f"the training set has {self.n} samples, less than"
            if self.drop_last and self.n >= ranks:
                raise TrainingError(f"{known} one batch of {batch}; use a smaller data.batch_size, or data.drop_last: false")
            raise TrainingError(f"{known} one for each of {ranks} virtual ranks; use a larger set, or fewer train.virtual_ranks")

    @property
    def steps_per_epoch(self) -> int:
        """Updates in an epoch. A rest that cannot give each virtual rank one sample is dropped in any case."""
        rest = self.n % self.batch_size
        return self.n // self.batch_size + (not self.drop_last and rest >= self.virtual_ranks)

    def batch(self, epoch: int, step: int) -> Indices:
        """The sample numbers of one update of the whole job.

        Args:
            epoch: the epoch.
            step: the update, counted from 0 within the epoch.
        """
        start, stop = self._span(step)
        return self._order(epoch).slice(start, stop)

    def micro_batch(self, epoch: int, step: int, v: int) -> Indices:
        """The sample numbers of virtual rank `v` in one update: the v-th part of `batch(epoch, step)`."""
        start, stop = self._span(step)
        each, more = divmod(stop - start, self.virtual_ranks)  # `more` > 0 in an epoch's incomplete batch only
        first = start + v * each + min(v, more)
        return self._order(epoch).slice(first, first + each + (v < more))

    def slice(self, epoch: int, start: int, stop: int) -> Indices:
        """The sample numbers at some positions of an epoch's order, whatever updates they are of."""
        return self._order(epoch).slice(start, stop)

    def samples(self, step: int) -> int:
        """How many samples one update uses: `batch_size`, or the rest in an epoch's incomplete batch."""
        start, stop = self._span(step)
        return stop - start

    def counts(self, step: int, ranks: range) -> list[int]:
        """How many samples each of some virtual ranks has in one update."""
        each, more = divmod(self.samples(step), self.virtual_ranks)
        return [each + (v < more) for v in ranks]

    def _span(self, step: int) -> tuple[int, int]:
        if not 0 <= step < self.steps_per_epoch:
            raise IndexError(f"step {step} of an epoch of {self.steps_per_epoch} steps")
        return step * self.batch_size, min((step + 1) * self.batch_size, self.n)

    def _order(self, epoch: int) -> EpochOrder:
        return _epoch_order(self.n, self.seed, epoch, self.shuffle)

    def ranks_of(self, rank: int, world_size: int) -> range:
        """The virtual ranks that one of `world_size` workers plays.

        Raises:
            TrainingError: the number of workers does not divide the number of virtual ranks.
        """
        each, rest = divmod(self.virtual_ranks, world_size)
        if rest:
            raise TrainingError(
                f"{world_size} workers cannot share {self.virtual_ranks} virtual ranks evenly; use a number that divides it"
            )
        return range(rank * each, (rank + 1) * each)


class KeyedSampler(DistributedSampler[int]):
    """The plan's order as a `DistributedSampler`: at home in any DataLoader, resumable at any step.

    Args:
        dataset: the data set; only its length is used.
        plan: which samples each update uses.
        num_replicas: the number of workers; the process group's size when left out.
        rank: this worker; the process group's rank when left out.
    """

    def __init__(self, dataset: Any, plan: BatchPlan, num_replicas: int | None = None, rank: int | None = None) -> None:
        super().__init__(dataset, num_replicas=num_replicas, rank=rank, shuffle=plan.shuffle, seed=plan.seed, drop_last=plan.drop_last)
        if len(dataset) != plan.n:
            raise TrainingError(f"the plan is for {plan.n} samples, the data set has {len(dataset)}")
        self.plan = plan
        self.start_step = 0
        self._virtual_ranks = plan.ranks_of(self.rank, self.num_replicas)

    def set_epoch(self, epoch: int, start_step: int = 0) -> None:
        """Choose the epoch, and the update in it from which the next iteration starts."""
        self.epoch = epoch
        self.start_step = start_step

    def __iter__(self) -> Iterator[int]:
        """This worker's sample numbers: update by update, in each virtual rank by virtual rank."""
        for step in range(self.start_step, self.plan.steps_per_epoch):
            for v in self._virtual_ranks:
                yield from self.plan.micro_batch(self.epoch, step, v).tolist()

    def __len__(self) -> int:
        """The number of samples that an iteration from `start_step` gives."""
        steps = self.plan.steps_per_epoch
        if self.start_step >= steps:
            return 0
        whole = self.plan.batch_size // self.plan.virtual_ranks * len(self._virtual_ranks)
        last = sum(len(self.plan.micro_batch(self.epoch, steps - 1, v)) for v in self._virtual_ranks)
        return (steps - 1 - self.start_step) * whole + last
