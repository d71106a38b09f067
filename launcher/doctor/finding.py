"""What the doctor says: one line for each thing that was looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

OK = "ok"
WARNING = "warning"
FAILED = "failed"

Facts = Mapping[str, Any]
"""What a look has found, as plain types. `LOST` in it: the look came to nothing, and why. `NOT_BEGUN`: it was never begun, and why."""
LOST = "lost"
NOT_BEGUN = "not_begun"


@dataclass(frozen=True)
class Finding:
    """One line.

    Args:
        check: what was looked at.
        state: ok; warning: training works, and something will be missed; failed: training cannot work.
        found: what is so.
        advice: what to do about it; empty where nothing need be done.
    """

    check: str
    state: str
    found: str
    advice: str = ""

    def as_json(self) -> dict[str, str]:
        """The line as plain types."""
        return asdict(self)


def plural(count: int, noun: str) -> str:
    """``1 core``, ``2 cores``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def fault_facts(fault: BaseException) -> dict[str, Any]:
    """An exception in one line: what came of a look that came to nothing."""
    lines = [line.strip() for line in str(fault).splitlines() if line.strip()]
    if isinstance(fault, OSError) and fault.strerror:
        lines = [f"{fault.strerror}: {fault.filename}" if fault.filename else fault.strerror]
    return {LOST: f"{type(fault).__name__}: {lines[0]}" if lines else type(fault).__name__}
