"""Numbers, times and sizes as people read them. Pure."""

from __future__ import annotations

import math
import time

SHARES = ("accuracy", "exact_match")
"""Figures that are shares, by the end of their names; they are told in per cent."""


def figure(name: str, value: object) -> str:
    """A metric's value: ``99.26 %`` of a share, else four digits."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
        return "–"
    return f"{100 * value:.2f} %" if name.endswith(SHARES) else number(value)


def number(value: float) -> str:
    """Four digits that count: ``0.02643``, ``1,262``, ``2e-07``."""
    if not math.isfinite(value):
        return "–"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}" if abs(value) < 1e7 else f"{value:.4g}"
    if abs(value) >= 1000:
        return f"{value:,.0f}" if abs(value) < 1e7 else f"{value:.3e}"
    return f"{value:.4g}"


def tick(value: float, step: float) -> str:
    """A number on an axis, with the digits that its neighbours differ in."""
    if value == 0:
        return "0"
    size = max(abs(value), abs(step))
    if size < 1e-3 or size >= 1e6:
        return f"{value:.3g}".replace("e-0", "e-").replace("e+0", "e")
    places = next((n for n in range(6) if abs(step * 10**n - round(step * 10**n)) < 1e-6 * 10**n * abs(step)), 6)
    return f"{value:,.{places}f}"


def duration(seconds: float | None) -> str:
    """``4.2 s``, ``3 min 05 s``, ``2 h 07 min``, ``3 d 4 h``."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    seconds = max(0.0, seconds)
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def size(count: float | None) -> str:
    """``320 MiB``."""
    if count is None or not math.isfinite(count):
        return "–"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024 or unit == "GiB":
            break
        count /= 1024
    return f"{count:.0f} {unit}" if unit == "B" or abs(count) >= 100 else f"{count:.3g} {unit}"


def moment(seconds: object, *, day: bool = True) -> str:
    """A time of day here, with its date: ``2026-11-21 11:52:34``."""
    if not isinstance(seconds, (int, float)) or isinstance(seconds, bool):
        return "–"
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S" if day else "%H:%M:%S", time.localtime(seconds))
    except (OverflowError, ValueError, OSError):
        return "–"


def plural(count: int, noun: str) -> str:
    """``1 worker``, ``2 workers``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
