"""Numbers as a report writes them."""

from __future__ import annotations

from collections.abc import Callable

from medfathom.analysis.size.estimate import Interval


def number(value: float | None, digits: int = 4) -> str:
    """A number for reading; a dash where there is none."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}f}".replace("-", "−")


def interval(ends: Interval, digits: int = 4, told: Callable[[float, int], str] = number) -> str:
    """An interval for reading; unbounded ends are said to be so."""
    if ends[0] is None and ends[1] is None:
        return "–"
    low, high = ("unbounded" if end is None else told(end, digits) for end in ends)
    return f"{low} to {high}"


def per_unit(value: float | None, digits: int = 4) -> str:
    """A slope for reading: two digits that say something, where the predictor's unit is small."""
    if value is None or value == 0 or abs(value) >= 0.5 * 10**-digits:
        return number(value, digits)
    return f"{value:.2g}".replace("-", "−")


def per_unit_interval(ends: Interval) -> str:
    """An interval of a slope for reading."""
    return interval(ends, told=per_unit)


def p_value(value: float | None) -> str:
    """A p-value for reading."""
    if value is None:
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
