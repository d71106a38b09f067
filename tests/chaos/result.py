"""What a scenario says when it is over."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Result:
    """One row of the table.

    Args:
        name: the scenario's.
        wanted: how many cases there were.
        good: how many of them ended as they must.
        failures: a line for each that did not, with what reproduces it.
        notes: what else is worth a word.
    """

    name: str
    wanted: int
    good: int
    failures: list[str] = field(default_factory=list)
    notes: str = ""

    @property
    def ok(self) -> bool:
        """Whether there were cases, and all of them ended as they must."""
        return self.wanted > 0 and self.good == self.wanted and not self.failures
