"""The tree sum over real gloo ranks gives the bits that one process gets by adding leaf after leaf."""

from __future__ import annotations

import hashlib

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from tests.support.ranks import run_ranks
from trainer.config.schema import HardwareSection
from trainer.distributed import join
from trainer.reduce import Block, SubtreeStack, TreeReduction, additions, leaves_of

SIZES = (3, 7, 1000, 257)


def leaf_gradients(leaf: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(leaf)
    return [torch.randn(n, generator=generator) * 10 ** float(leaf % 5 - 2) for n in SIZES]


class Leaf(nn.Module):
    """A model whose gradient is whatever it is fed."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.ParameterList([nn.Parameter(torch.zeros(n)) for n in SIZES])

    def forward(self, gradients: list[torch.Tensor]) -> torch.Tensor:
        return torch.stack([(w * g).sum() for w, g in zip(self.weights, gradients, strict=True)]).sum()


def summed_by_ranks(virtual_ranks: int, native: bool = True) -> str:
    world = join(HardwareSection(device="cpu"))
    model = Leaf()
    ddp = DistributedDataParallel(model, gradient_as_bucket_view=True, bucket_cap_mb=0.003)
    parameters = list(model.parameters())
    reduction = TreeReduction(world.rank, world.size, virtual_ranks, parameters, native)
    ddp.register_comm_hook(None, reduction.hook)
    found = []
    for _ in range(3):  # DDP lays its buckets anew after the first backward pass
        for parameter in parameters:
            parameter.grad = None
        leaves = leaves_of(world.rank, world.size, virtual_ranks)
        for leaf in leaves[:-1]:
            with ddp.no_sync():
                ddp(leaf_gradients(leaf)).backward()
            reduction.stack.push(leaf, [p.grad for p in parameters])
            for parameter in parameters:
                parameter.grad = None
        ddp(leaf_gradients(leaves[-1])).backward()
        reduction.stack.clear()
        found.append(digest([p.grad for p in parameters if p.grad is not None]))
    assert len(set(found)) == 1
    return found[0]


def digest(gradients: list[torch.Tensor]) -> str:
    return hashlib.sha256(b"".join(g.numpy().tobytes() for g in gradients)).hexdigest()


def summed_alone(virtual_ranks: int) -> str:
    """The definition, written down a second time: a list of leaves added by `additions`."""
    slots = [leaf_gradients(leaf) for leaf in range(virtual_ranks)]
    for left, right in additions([Block(leaf, 1) for leaf in range(virtual_ranks)]):
        slots[left] = [a + b for a, b in zip(slots[left], slots[right], strict=True)]
    return digest(slots[0])


def stacked_alone(virtual_ranks: int) -> str:
    stack = SubtreeStack()
    for leaf in range(virtual_ranks):
        stack.push(leaf, list(leaf_gradients(leaf)))
    return digest([g for g in stack.total() if g is not None])


@pytest.mark.parametrize(
    ("virtual_ranks", "world_size"), [(2, 2), (4, 2), (6, 2), (3, 3), (6, 3), (15, 3), (4, 4), (8, 4), (12, 4), (12, 6), (12, 3), (12, 2)]
)
def test_the_sum_over_ranks_has_the_bits_of_the_sum_in_one_process(virtual_ranks: int, world_size: int) -> None:
    alone = summed_alone(virtual_ranks)
    assert stacked_alone(virtual_ranks) == alone
    assert set(run_ranks(summed_by_ranks, world_size, virtual_ranks)) == {alone}


def test_two_workers_get_the_same_bits_from_the_librarys_all_reduce_and_from_the_tree() -> None:
    assert run_ranks(summed_by_ranks, 2, 4, True) == run_ranks(summed_by_ranks, 2, 4, False)
