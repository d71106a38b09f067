"""The sum of gradients in one fixed binary tree over the virtual ranks, whoever plays them.

The tree is made of *aligned dyadic blocks*: leaves 2i and 2i+1 join, then aligned fours, and so on, by absolute leaf number, as a binary
counter carries; what is left over at the end (V no power of two) is added from left to right. For V = 6::

    ((g0+g1) + (g2+g3)) + (g4+g5)

Each leaf is the gradient of its mean loss times its share of the samples (1/V), so the sum is the mean.

A worker sums its own leaves as far as the tree allows and sends the pieces; `all_to_all` brings every worker all pieces of one chunk of
the elements, which it adds in tree order; `all_gather` brings the sums back. Each element is summed in the same tree wherever it lies,
so bucket and chunk boundaries cannot change a bit. Related: EasyScale (Li et al., SC'23), VirtualFlow (Or et al., MLSys'22).
"""

# No `from __future__ import annotations` here: DDP looks at the hook's annotations, and they must be types, not text.

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

# torch 2.13 renames it, and warns of the old name.
_all_gather: Any = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor


@dataclass(frozen=True)
class Block:
    """The aligned run of leaves ``start … start + size - 1``; size is a power of two that divides start."""

    start: int
    size: int

    def joins(self, right: "Block") -> bool:
        """Whether this block and the next one are the two halves of an aligned block."""
        return self.size == right.size and self.start % (2 * self.size) == 0 and self.start + self.size == right.start


def blocks(start: int, stop: int) -> list[Block]:
    """The fewest aligned blocks that cover the leaves ``start … stop - 1``, from left to right."""
    found: list[Block] = []
    while start < stop:
        size = start & -start if start else 1 << (stop - start).bit_length()
        while start + size > stop:
            size //= 2
        found.append(Block(start, size))
        start += size
    return found


def additions(pieces: list[Block]) -> list[tuple[int, int]]:
    """The tree as a list of ``slot[i] += slot[j]`` over pieces given from left to right; the sum ends in slot 0."""
    todo: list[tuple[int, int]] = []
    stack: list[tuple[Block, int]] = []
    for slot, piece in enumerate(pieces):
        stack.append((piece, slot))
        while len(stack) > 1 and stack[-2][0].joins(stack[-1][0]):
            _, right = stack.pop()
            left_block, left = stack.pop()
            todo.append((left, right))
            stack.append((Block(left_block.start, 2 * left_block.size), left))
    todo += [(stack[0][1], slot) for _, slot in stack[1:]]  # the left-over blocks
    return todo


def leaves_of(rank: int, world_size: int, virtual_ranks: int) -> range:
    """The virtual ranks that one worker plays, in order.

    Raises:
        ValueError: the world size does not divide the number of virtual ranks.
    """
    if virtual_ranks % world_size:
        raise ValueError(f"{world_size} workers cannot play {virtual_ranks} virtual ranks evenly")
    share = virtual_ranks // world_size
    return range(rank * share, (rank + 1) * share)


class SubtreeStack:
    """One worker's finished subtrees, from left to right: lists of gradients, in the parameters' order.

    It holds at most log2 of the worker's leaves, and nothing when there is one leaf.
    """

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.gradients: list[list[torch.Tensor | None]] = []

    def push(self, leaf: int, gradients: list[torch.Tensor | None]) -> None:
        """Add the gradients of the next leaf; merge as a binary counter carries. The stack owns the tensors from here on."""
        self.blocks.append(Block(leaf, 1))
        self.gradients.append(gradients)
        while len(self.blocks) > 1 and self.blocks[-2].joins(self.blocks[-1]):
            right = self.blocks.pop()
            self.blocks[-1] = Block(self.blocks[-1].start, 2 * right.size)
            add_into(self.gradients[-2], self.gradients.pop())

    def total(self) -> list[torch.Tensor | None]:
        """The sum of all that was pushed; the stack is empty afterwards."""
        total = self.gradients[0]
        for piece in self.gradients[1:]:
            add_into(total, piece)
        self.clear()
        return total

    def clear(self) -> None:
        """Forget everything."""
        self.blocks, self.gradients = [], []


def add_into(left: list[torch.Tensor | None], right: list[torch.Tensor | None]) -> None:
    """``left[i] += right[i]``; a parameter without a gradient on one side takes the other's."""
    pairs = [(a, b) for a, b in zip(left, right, strict=True) if a is not None and b is not None]
    if pairs:
        torch._foreach_add_([a for a, _ in pairs], [b for _, b in pairs])
    for i, (a, b) in enumerate(zip(left, right, strict=True)):
        if a is None:
            left[i] = b


class TreeReduction:
    """A DDP communication hook that sums gradients in the tree.

    Args:
        rank: this worker's rank.
        world_size: the number of workers, W >= 2.
        virtual_ranks: V, a multiple of W.
        parameters: the model's trainable parameters, in the order in which gradients are pushed on `stack`.
        native: use the library's own all-reduce where it is exact (two workers with one piece each).
    """

    def __init__(self, rank: int, world_size: int, virtual_ranks: int, parameters: Sequence[torch.Tensor], native: bool = True) -> None:
        self.world_size = world_size
        shares = [leaves_of(r, world_size, virtual_ranks) for r in range(world_size)]
        self.last_leaf = shares[rank][-1]
        pieces = [blocks(leaves.start, leaves.stop) for leaves in shares]
        self.sizes = [len(mine) for mine in pieces]
        self.additions = additions([piece for mine in pieces for piece in mine])
        self.native = native and world_size == 2 and self.sizes == [1, 1]  # a + b = b + a
        self.stack = SubtreeStack()
        self.index = {id(parameter): i for i, parameter in enumerate(parameters)}
        self.scratch: torch.Tensor | None = None  # fresh memory for each bucket would be paid in page faults
        # On the CPU a thread of our own runs the collectives of one bucket after another, in the same order on every rank, while
        # autograd goes on in the main thread. On CUDA the same work is queued on a side stream.
        self.thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tree-reduction")
        self.side_stream: Any = None

    def hook(self, state: object, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
        """What DDP calls for each bucket of finished gradients."""
        pieces = self._own_pieces(bucket)
        buffer = bucket.buffer()
        if self.native:
            work = dist.all_reduce(buffer, async_op=True)
            future: torch.futures.Future[torch.Tensor] = work.get_future().then(_only)
            return future
        if buffer.is_cuda:
            return self._on_side_stream(buffer, pieces)
        future = torch.futures.Future()
        self.thread.submit(self._run, future, buffer, pieces)
        return future

    def _own_pieces(self, bucket: dist.GradBucket) -> list[torch.Tensor]:
        """This worker's maximal blocks for one bucket, flat, from left to right; the last one is the bucket's own memory."""
        views = _views(bucket)
        waiting = list(zip(self.stack.blocks, self.stack.gradients, strict=True))
        block = Block(self.last_leaf, 1)
        while waiting and waiting[-1][0].joins(block):
            left, gradients = waiting.pop()
            block = Block(left.start, 2 * left.size)
            own = [gradients[self.index[id(parameter)]] for parameter in bucket.parameters()]
            pairs = [(view, gradient) for view, gradient in zip(views, own, strict=True) if gradient is not None]
            if pairs:  # into the bucket: a + b = b + a
                torch._foreach_add_([view for view, _ in pairs], [gradient for _, gradient in pairs])
        return [*(_flat(bucket, gradients, self.index) for _, gradients in waiting), bucket.buffer()]

    def _run(self, future: torch.futures.Future[torch.Tensor], buffer: torch.Tensor, pieces: list[torch.Tensor]) -> None:
        try:
            self._reduce(buffer, pieces)
            future.set_result(buffer)
        except BaseException as fault:  # it must reach the thread that waits for this future
            future.set_exception(fault)  # type: ignore[arg-type]

    def _on_side_stream(self, buffer: torch.Tensor, pieces: list[torch.Tensor]) -> torch.futures.Future[torch.Tensor]:
        if self.side_stream is None:
            self.side_stream = torch.cuda.Stream(buffer.device)
        future: torch.futures.Future[torch.Tensor] = torch.futures.Future(devices=[buffer.device])
        self.side_stream.wait_stream(torch.cuda.current_stream(buffer.device))
        with torch.cuda.stream(self.side_stream):
            for piece in pieces:
                piece.record_stream(self.side_stream)
            self._reduce(buffer, pieces)
            future.set_result(buffer)
        return future

    def _reduce(self, buffer: torch.Tensor, pieces: list[torch.Tensor]) -> None:
        """Sum the pieces of all workers into `buffer`, flat, in tree order: each worker adds one chunk, and all take all chunks.

        What is left when the elements do not divide over the workers, W - 1 elements at most, every worker adds by itself.
        """
        workers, numel = self.world_size, buffer.numel()
        chunk = numel // workers
        whole = chunk * workers
        rest = self._send_rest([piece[whole:] for piece in pieces]) if whole < numel else None
        if chunk:
            self._reduce_chunks(buffer[:whole], [piece[:whole] for piece in pieces], chunk)
        if rest is not None:
            everyone, work = rest
            work.wait()
            buffer[whole:] = self._sum(torch.cat([theirs[:size] for theirs, size in zip(everyone, self.sizes, strict=True)]))

    def _reduce_chunks(self, buffer: torch.Tensor, pieces: list[torch.Tensor], chunk: int) -> None:
        outgoing = pieces[0]
        if len(pieces) > 1:  # chunk by chunk, in each chunk piece by piece
            outgoing = torch.stack([piece.view(self.world_size, chunk) for piece in pieces], dim=1).view(-1)
        slots = self._scratch(buffer, sum(self.sizes) * chunk)
        dist.all_to_all_single(slots, outgoing, [size * chunk for size in self.sizes], [len(pieces) * chunk] * self.world_size)
        _all_gather(buffer, self._sum(slots.view(-1, chunk)))

    def _send_rest(self, pieces: list[torch.Tensor]) -> tuple[torch.Tensor, dist.Work]:
        rows = pieces[0].new_zeros(max(self.sizes), pieces[0].numel())
        rows[: len(pieces)] = torch.stack(pieces)
        everyone = rows.new_empty(self.world_size, *rows.shape)
        return everyone, _all_gather(everyone.view(-1), rows.view(-1), async_op=True)

    def _sum(self, slots: torch.Tensor) -> torch.Tensor:
        for left, right in self.additions:
            slots[left].add_(slots[right])
        return slots[0]

    def _scratch(self, like: torch.Tensor, numel: int) -> torch.Tensor:
        if self.scratch is None or self.scratch.numel() < numel or self.scratch.dtype != like.dtype:
            self.scratch = like.new_empty(numel)
        return self.scratch[:numel]


def _only(done: torch.futures.Future[list[torch.Tensor]]) -> torch.Tensor:
    return done.value()[0]


def _flat(bucket: dist.GradBucket, gradients: list[torch.Tensor | None], index: dict[int, int]) -> torch.Tensor:
    """One stacked subtree's gradients in a bucket's layout."""
    buffer = bucket.buffer()
    flat = torch.zeros_like(buffer)
    for parameter, view in zip(bucket.parameters(), _views(bucket), strict=True):
        gradient = gradients[index[id(parameter)]]
        if gradient is not None:
            flat.as_strided(view.size(), view.stride(), view.storage_offset() - buffer.storage_offset()).copy_(gradient)
    return flat


def _views(bucket: dist.GradBucket) -> list[torch.Tensor]:
    """Each parameter's place in a bucket, in the parameter's own strides (channels_last), which `bucket.gradients` does not know."""
    buffer = bucket.buffer()
    places = zip(bucket.parameters(), bucket.gradients(), strict=True)
    return [buffer.as_strided(p.size(), p.stride(), view.storage_offset()) if _is_dense(p) else view for p, view in places]


def _is_dense(tensor: torch.Tensor) -> bool:
    """Whether its elements fill their memory without gaps, in whatever order: then DDP keeps their strides."""
    filled = 1
    for stride, size in sorted((stride, size) for stride, size in zip(tensor.stride(), tensor.size(), strict=True) if size != 1):
        if stride != filled:
            return False
        filled *= size
    return True
