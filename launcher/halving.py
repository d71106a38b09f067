"""Successive halving (Jamieson & Talwalkar, 2016): many runs begin, the best of each rung go on (pure).

Nothing is remembered: what the runs' own folders say decides what is to be done next, whoever asks and however often.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from trainer.errors import TRAINING_FAILED


@dataclass(frozen=True)
class Rung:
    """Up to which epoch how many runs train.

    Args:
        epoch: epochs done at its end.
        runs: so many take part.
        last: the runs train to their end.
    """

    epoch: int
    runs: int
    last: bool


@dataclass(frozen=True)
class Seen:
    """What a run's folder says.

    Args:
        values: by epoch, the watched metric of its evaluation; None: it was not finite.
        saved: epochs that its newest checkpoint has behind it.
        finished: it has trained to its end.
        code: with which exit code it failed; None: it has not.
        failures: so often it has failed since its newest checkpoint.
    """

    values: Mapping[int, float | None] = field(default_factory=dict)
    saved: int = 0
    finished: bool = False
    code: int | None = None
    failures: int = 0

    def reached(self, rung: Rung) -> bool:
        """Whether it is through with a rung."""
        return self.finished or (not rung.last and self.saved >= rung.epoch)

    def gone(self) -> bool:
        """Whether it is out for good: its own fault, which would happen again, or a fault of the system twice without a step ahead."""
        return self.code is not None and (self.code == TRAINING_FAILED or self.failures > 1)

    def value(self, epoch: int, more: bool) -> float | None:
        """Its best evaluation up to an epoch, by which the run itself chooses its best checkpoint; None: the newest one is not finite."""
        known = [value for at, value in sorted(self.values.items()) if at <= epoch]
        if not known or known[-1] is None:
            return None
        return (max if more else min)(value for value in known if value is not None)


@dataclass(frozen=True)
class Turn:
    """What is to be done next.

    Args:
        rung: which one, counted from 0; the number of rungs where all is done.
        entrants: the points that take part in it, the best first.
        todo: those of them that are not through with it yet.
        out: why a point that took part in an earlier rung, or in this one, does not go on.
    """

    rung: int
    entrants: tuple[int, ...]
    todo: tuple[int, ...]
    out: Mapping[int, str]


def rungs(points: int, epochs: int, eta: int, every: int = 1) -> list[Rung]:
    """The rungs: from each to the next the epochs grow by `eta`, and one in `eta` goes on.

    Args:
        points: that begin.
        epochs: of a whole run.
        eta: the factor.
        every: epochs between two evaluations; each rung ends with one.
    """
    steps = 0
    while eta ** (steps + 1) <= min(points, epochs):
        steps += 1
    found: list[Rung] = []
    for step in range(steps + 1):
        epoch = min(epochs, -(-epochs // (eta ** (steps - step) * every)) * every)
        if found and epoch <= found[-1].epoch:  # evaluations are too rare to tell these two apart
            continue
        found.append(Rung(epoch, points if not found else max(1, found[-1].runs // eta), epoch == epochs))
        if epoch == epochs:
            break
    return found


def next_turn(seen: Sequence[Seen], ladder: Sequence[Rung], eta: int, more: bool, lost: Collection[int] = ()) -> Turn:
    """What is to be done next, from what the runs' folders say.

    Args:
        seen: of each point, in their order; of two with the same value the first one goes on.
        ladder: the rungs.
        eta: one in so many goes on.
        more: whether more of the watched metric is better.
        lost: points that have failed already since somebody asked for the sweep: they are not tried once more.
    """
    entrants, out = tuple(range(len(seen))), dict[int, str]()
    for number, rung in enumerate(ladder):
        through = [point for point in entrants if seen[point].reached(rung)]
        fallen = [point for point in entrants if point not in through and (seen[point].gone() or (point in lost and _failed(seen[point])))]
        out |= {point: f"failed with exit code {seen[point].code}" for point in fallen}
        if todo := tuple(point for point in entrants if point not in through and point not in fallen):
            return Turn(number, entrants, todo, out)
        if rung.last:
            return Turn(number + 1, tuple(through), (), out)
        told = {point: value for point in through if (value := seen[point].value(rung.epoch, more)) is not None}
        out |= {point: f"its metric was not finite at epoch {rung.epoch}" for point in through if point not in told}
        ranked = sorted(told, key=lambda point: (-told[point] if more else told[point], point))
        most = max(1, rung.runs // eta)
        out |= {point: f"not among the best {most} at epoch {rung.epoch}" for point in ranked[most:]}
        entrants = tuple(ranked[:most])
    return Turn(len(ladder), (), (), out)


def _failed(one: Seen) -> bool:
    return one.code is not None
