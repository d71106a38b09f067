"""Which checkpoints stay. Pure: it touches no disk."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def keep(names: Sequence[str], steps: Sequence[int], *, last: int, every: int | None, protected: Collection[str]) -> set[str]:
    """The checkpoints to keep.

    Args:
        names: all good checkpoints, oldest first.
        steps: the step of each.
        last: how many of the newest stay.
        every: those whose step is a multiple of this stay.
        protected: names that stay whatever the rest says: the best one, and the one just written (it need not be the newest).
    """
    stay = set(names[max(0, len(names) - last) :]) | (set(protected) & set(names))
    if every is not None:
        stay |= {name for name, step in zip(names, steps, strict=True) if step > 0 and step % every == 0}
    return stay
