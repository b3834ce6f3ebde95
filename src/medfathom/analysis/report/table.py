"""A table of a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MOST_ROWS = 600
"""Rows of results in the page; results.csv has all."""


@dataclass(frozen=True)
class Table:
    """A table; one without rows is not shown.

    Attributes:
        title: what it is.
        headings: of its columns.
        rows: texts.
        note: to be read before.
    """

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


def more_rows(count: int) -> str:
    """That a table has more rows than are shown; empty where it has not."""
    return f" Shown are the first {MOST_ROWS} of {count:,} rows." if count > MOST_ROWS else ""
