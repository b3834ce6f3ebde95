"""Tables that never lose their names: whatever the width, each row says what it is.

Where a table is too wide, the prefix that all names share goes first, then columns of minor interest, the
least important first; what is left out is named. At last names are folded. Into a file or a pipe everything
is written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

SHORT_KEYS = {"architecture": "", "init": "", "unfreeze_depth": "depth ", "strategy": ""}
"""How hyperparameters are written in a short name of a stratum; others keep their own name."""

Shortener = Callable[[Sequence[str]], list[str]]


def without_shared_prefix(names: Sequence[str]) -> list[str]:
    """Names without the words that all of them begin with.

    >>> without_shared_prefix(["tf_efficientnet_lite0", "tf_efficientnet_lite2"])
    ['lite0', 'lite2']
    """
    different = sorted(set(names))
    if len(different) < 2:
        return list(names)
    ends = enumerate(zip(different[0], different[-1], strict=False))
    shared = different[0][: next((i for i, (a, b) in ends if a != b), len(different[0]))]
    cut = max((match.end() for match in re.finditer(r"[_\W]", shared)), default=0)
    return [name[cut:] for name in names]


def short_strata(strata: Sequence[str]) -> list[str]:
    """Strata in short words, without the words that all their architectures begin with.

    >>> short_strata(["architecture=vgg11 init=imagenet unfreeze_depth=3", "architecture=vgg16 init=random"])
    ['vgg11 · imagenet · depth 3', 'vgg16 · random']
    """
    found = [re.search(r"(?:^| )architecture=(\S+)", name) for name in strata]
    names = [match.group(1) if match else "" for match in found]
    short = dict(zip(names, without_shared_prefix(names), strict=True))
    return [_short(name, short) for name in strata]


def _short(stratum: str, architectures: dict[str, str]) -> str:
    words, paren, rest = stratum.partition(" (")
    parts = (_short_part(part, architectures) for part in re.split(r" (?=\w+=)", words))
    return " · ".join(parts) + paren + rest


def _short_part(part: str, architectures: dict[str, str]) -> str:
    key, equals, value = part.partition("=")
    if not equals:
        return part
    return SHORT_KEYS.get(key, f"{key} ") + (
        architectures.get(value, value) if key == "architecture" else value
    )


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
            yield Text(f"Left out in this width: {titles}.", "dim")

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
