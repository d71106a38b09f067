"""How far a form's outputs may be from those of the run's model: by their own size, and never not a number."""

from __future__ import annotations

import math
from typing import Any, cast

import pytest
import torch

from trainer.errors import DIFFERENT
from trainer.export import ExportError, Made, _check, _difference, _Source

NAN, INF = math.nan, math.inf


def compared(ours: list[list[float]], theirs: list[list[float]]) -> float:
    """The difference between some outputs, if it is allowed."""
    source = _Source(cast(Any, None), cast(Any, None), None, "2 samples", [torch.tensor(values) for values in ours])
    made = Made("torch", ("model.pt2",), _difference(source, lambda batch: [torch.tensor(values) for values in theirs]), "2 samples", "")
    _check(made, source)
    return made.difference


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_a_difference_counts_by_the_size_of_the_outputs(size: float) -> None:
    assert compared([[size, 0.5 * size]], [[size, 0.50005 * size]]) == pytest.approx(5e-5 * size, rel=0.05)
    with pytest.raises(ExportError, match=r"--format=torch: its outputs differ by up to .* \(2 samples\); nothing was written") as refused:
        compared([[size, 0.5 * size]], [[size, 0.51 * size]])
    assert refused.value.exit_code == DIFFERENT


def test_what_rounding_makes_of_outputs_near_0_is_allowed() -> None:
    assert compared([[0.0, 1e-9]], [[1e-7, 0.0]]) == pytest.approx(1e-7)
    assert compared([[]], [[]]) == 0.0


@pytest.mark.parametrize(("ours", "theirs"), [(1.0, NAN), (NAN, 1.0), (NAN, NAN), (1.0, INF), (INF, 1.0), (INF, -INF)])
def test_no_output_may_be_infinitely_far_off_in_whichever_place_it_is(ours: float, theirs: float) -> None:
    for before in ([], [[1.0]]):
        with pytest.raises(ExportError, match="differ by up to inf from"):
            compared([*before, [2.0, ours]], [*before, [2.0, theirs]])


def test_a_score_that_is_closed_off_on_both_sides_is_no_difference() -> None:
    assert compared([[1.0, -INF]], [[1.0, -INF]]) == 0.0
