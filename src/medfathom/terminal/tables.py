"""Tables that never lose their names: whatever the width, each row says what it is.

Where a table is too wide, the prefix that all names share goes first, then columns of minor interest, the
least important first; what is left out is named. At last names are folded. Into a file or a pipe everything
is written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

Shortener = Callable[[Sequence[str]], list[str]]


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        title: its header.
        left: aligned to the left, and folded where nothing else helps: a name.
        minor: 0: never left out; of the others the one with the highest number is left out first.
        shorten: all names of the column -> short ones.
        width: smallest width, so that it does not jump while a table is redrawn.
    """

    title: str
    left: bool = False
    minor: int = 0
    shorten: Shortener | None = None
    width: int | None = None


class FittedTable:
    """A table that rich prints in the width there is."""

    def __init__(self, columns: Sequence[Column], header_style: str = "dim") -> None:
        self._columns = list(columns)
        self._rows: list[tuple[RenderableType, ...]] = []
        self._header_style = header_style

    def add_row(self, *cells: RenderableType) -> None:
        """A cell for each column."""
        if len(cells) != len(self._columns):
            raise ValueError(f"{len(cells)} cells for {len(self._columns)} columns")
        self._rows.append(cells)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The widest form that fits."""
        left_out: list[Column] = []
        table = self._table(left_out, short=False)
        if not _fits(table, console, options):
            table = self._table(left_out, short=True)
        for column in sorted((c for c in self._columns if c.minor), key=lambda c: -c.minor):
            if _fits(table, console, options):
                break
            left_out.append(column)
            table = self._table(left_out, short=True)
        yield table
        if left_out:
            titles = ", ".join(c.title for c in self._columns if c in left_out)
            yield Text(f"Not shown in this width: {titles}.", "dim")

    def _table(self, left_out: Sequence[Column], *, short: bool) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style=self._header_style)
        kept = [i for i, column in enumerate(self._columns) if column not in left_out]
        for i in kept:
            column = self._columns[i]
            table.add_column(
                column.title,
                justify="left" if column.left else "right",
                no_wrap=not column.left,
                overflow="fold",  # a number cut short would be another number
                min_width=column.width,
            )
        cells = [self._cells(i, short=short) for i in kept]
        for row in zip(*cells, strict=True):
            table.add_row(*row)
        return table

    def _cells(self, i: int, *, short: bool) -> list[RenderableType]:
        cells = [row[i] for row in self._rows]
        shorten = self._columns[i].shorten
        return [*shorten([str(cell) for cell in cells])] if short and shorten else cells


def _fits(table: Table, console: Console, options: ConsoleOptions) -> bool:
    wide = options.update(max_width=10_000)
    return Measurement.get(console, wide, table).maximum <= options.max_width
