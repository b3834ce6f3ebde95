"""Numbers as a report writes them."""

from __future__ import annotations

from medfathom.analysis.size.estimate import Interval


def number(value: float | None, digits: int = 4) -> str:
    """A number for reading; a dash where there is none."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}f}".replace("-", "−")


def interval(ends: Interval, digits: int = 4) -> str:
    """An interval for reading; unbounded ends are said to be so."""
    if ends[0] is None and ends[1] is None:
        return "–"
    low, high = ("unbounded" if end is None else number(end, digits) for end in ends)
    return f"{low} to {high}"


def p_value(value: float | None) -> str:
    """A p-value for reading."""
    if value is None:
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
