"""Equal weights have equal fingerprints; weights that differ in a bit, a sign or their order do not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainer.fingerprint import quick, sha256

SIZE = 2 * 4096 + 1500  # two rows and a rest
DTYPES = [torch.bfloat16, torch.float16, torch.float32, torch.float64, torch.complex64, torch.complex128, torch.int64, torch.uint8]


def numbers(dtype: torch.dtype = torch.float32, size: int = SIZE) -> torch.Tensor:
    drawn = torch.randn(size, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 40
    return torch.view_as_complex(drawn).to(dtype) if dtype.is_complex else drawn[:, 0].contiguous().to(dtype)


def exchanged(tensor: torch.Tensor, one: slice, other: slice) -> torch.Tensor:
    changed = tensor.clone()
    changed[one], changed[other] = tensor[other], tensor[one]
    return changed


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_one_flipped_bit_shows_wherever_it_is(dtype: torch.dtype) -> None:
    tensor = numbers(dtype, 4096 + 20)
    expected = quick([tensor])
    octets = tensor.view(torch.uint8)
    for place in [*range(40), len(octets) // 2, *range(len(octets) - 40, len(octets))]:
        for bit in range(8):
            octets[place] ^= 1 << bit
            assert quick([tensor]) != expected
            octets[place] ^= 1 << bit
    assert quick([tensor]) == expected


@given(places=st.lists(st.integers(0, SIZE - 1), min_size=2, max_size=2, unique=True), dtype=st.sampled_from(DTYPES[:6]))
def test_two_flipped_signs_do_not_cancel(places: list[int], dtype: torch.dtype) -> None:
    tensor = numbers(dtype)
    changed = tensor.clone()
    changed[places] *= -1
    assert quick([changed]) != quick([tensor])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_exchanged_rows_and_rests_show(dtype: torch.dtype) -> None:
    row = 4096 * 4 // max(4, torch.empty((), dtype=dtype).element_size())
    tensor = numbers(dtype, 2 * row + 1500)
    first, second, rest = slice(0, row), slice(row, 2 * row), slice(2 * row, None)
    assert quick([exchanged(tensor, first, second)]) != quick([tensor])
    assert quick([exchanged(tensor, slice(0, 1500), rest)]) != quick([tensor])
    assert quick([exchanged(tensor, slice(row, row + 1500), rest)]) != quick([tensor])


@given(places=st.lists(st.integers(0, SIZE - 1), min_size=2, max_size=2, unique=True), dtype=st.sampled_from(DTYPES[2:6]))
def test_two_exchanged_elements_show(places: list[int], dtype: torch.dtype) -> None:
    one, other = places
    tensor = numbers(dtype)
    assert quick([exchanged(tensor, slice(one, one + 1), slice(other, other + 1))]) != quick([tensor])


def test_truth_values_empty_tensors_and_single_numbers_have_fingerprints() -> None:
    truth = torch.arange(5000) % 3 == 0
    assert quick([truth]) == quick([truth.clone()])
    assert quick([truth]) != quick([~truth])
    assert len(quick([torch.zeros(0), torch.tensor(1.5)])) == 16
    assert quick([torch.tensor(1.5)]) != quick([torch.tensor(-1.5)])
    assert quick([torch.zeros(3), torch.ones(3)]) != quick([torch.ones(3), torch.zeros(3)])


@pytest.mark.parametrize("hashed", [lambda t: quick([t]), lambda t: sha256({"t": t})], ids=["quick", "sha256"])
def test_only_the_values_count_and_not_how_they_lie_in_memory(hashed: Callable[[torch.Tensor], str]) -> None:
    tensor = numbers(torch.complex128, 120).view(10, 12)
    assert hashed(tensor.t().contiguous().t()) == hashed(tensor)
    assert hashed(tensor.conj()) == hashed(tensor.conj().resolve_conj()) != hashed(tensor)
    assert hashed(tensor.conj().imag) == hashed(-tensor.imag) != hashed(tensor.imag)
