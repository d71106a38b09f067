"""Which checkpoints stay, for any list of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trainer.checkpoint.retention import keep

STEPS = st.lists(st.integers(0, 60), max_size=12).map(sorted)


@given(steps=STEPS, last=st.integers(0, 15), every=st.none() | st.integers(1, 20), chosen=st.sets(st.integers(0, 15)))
def test_the_newest_the_milestones_and_the_protected_stay_and_nothing_else(
    steps: list[int], last: int, every: int | None, chosen: set[int]
) -> None:
    names = [f"c{i}" for i in range(len(steps))]
    protected = {f"c{i}" for i in chosen}  # some of them may be gone
    stay = keep(names, steps, last=last, every=every, protected=protected)
    newest = {name for i, name in enumerate(names) if i >= len(names) - last}
    milestones = {name for name, step in zip(names, steps, strict=True) if every and step and step % every == 0}
    assert stay <= set(names)
    assert newest <= stay
    assert protected & set(names) <= stay
    assert stay == newest | milestones | (protected & set(names))
