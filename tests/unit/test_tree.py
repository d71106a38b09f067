"""The tree over virtual ranks, as arithmetic on blocks; its sums over real ranks are in tests/ranks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.reduce import Block, additions, blocks, leaves_of


def spelled(pieces: list[Block]) -> str:
    """The tree as text, with the leaves inside each piece written out."""

    def inner(start: int, size: int) -> str:
        return str(start) if size == 1 else f"({inner(start, size // 2)}+{inner(start + size // 2, size // 2)})"

    slots = [inner(piece.start, piece.size) for piece in pieces]
    for left, right in additions(pieces):
        slots[left] = f"({slots[left]}+{slots[right]})"
    return slots[0]


def leaves(count: int) -> list[Block]:
    return [Block(leaf, 1) for leaf in range(count)]


def test_the_tree_is_the_one_in_the_documentation() -> None:
    assert spelled(leaves(8)) == "(((0+1)+(2+3))+((4+5)+(6+7)))"
    assert spelled(leaves(6)) == "(((0+1)+(2+3))+(4+5))"
    assert spelled(leaves(7)) == "((((0+1)+(2+3))+(4+5))+6)"
    assert spelled(leaves(1)) == "0"


@given(st.integers(1, 96), st.data())
def test_pieces_of_any_number_of_workers_make_the_same_tree(virtual_ranks: int, data: st.DataObject) -> None:
    world = data.draw(st.sampled_from([w for w in range(1, virtual_ranks + 1) if virtual_ranks % w == 0]))
    shares = [leaves_of(rank, world, virtual_ranks) for rank in range(world)]
    pieces = [piece for share in shares for piece in blocks(share.start, share.stop)]
    assert spelled(pieces) == spelled(leaves(virtual_ranks))


@given(st.integers(0, 10_000), st.integers(1, 5_000))
def test_blocks_are_aligned_few_and_cover_the_leaves_once(start: int, count: int) -> None:
    found = blocks(start, start + count)
    assert [leaf for block in found for leaf in range(block.start, block.start + block.size)] == list(range(start, start + count))
    assert all(block.start % block.size == 0 for block in found)
    assert len(found) <= max(1, 2 * (count - 1).bit_length())


def test_workers_that_do_not_divide_the_virtual_ranks_are_refused() -> None:
    with pytest.raises(ValueError, match="5 workers cannot play 12"):
        leaves_of(0, 5, 12)
