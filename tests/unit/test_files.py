"""What is published as JSON is JSON to every reader, also where a number is none."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from trainer.files import finite, json_text

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def strict(text: str) -> Any:
    """Read JSON as those do who know no NaN and no Infinity."""

    def refuse(word: str) -> Any:
        raise ValueError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_a_number_that_is_not_finite_is_null_at_any_depth() -> None:
    value = {"loss": math.nan, "per_class": [{"f1": -math.inf, "samples": 3}], "pair": (math.inf, 0.1), "name": "nan"}
    assert strict(json_text(value)) == {"loss": None, "per_class": [{"f1": None, "samples": 3}], "pair": [None, 0.1], "name": "nan"}


@given(VALUES)
def test_all_else_comes_back_as_it_was(value: Any) -> None:
    assert strict(json_text(value, indent=2)) == finite(value)
    plain = json.dumps(value)
    if not any(word in plain for word in ("NaN", "Infinity")):
        assert json_text(value) == plain
