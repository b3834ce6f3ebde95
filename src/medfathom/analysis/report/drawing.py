"""What all figures of a report share: one size, one set of colours, SVG text, and what a pointer reads.

Figures are drawn with matplotlib without a screen. Text stays text. In the page the colours of a figure are
the page's own, so that it follows the reader's light or dark screen.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from io import StringIO
from itertools import chain, count
from typing import Any

import pandas as pd
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from medfathom.colours import BLUE, GREEN, PALETTE, VERMILION

WIDTH = 4.3
"""Inches of a figure: a telephone shows it at nine tenths."""
SIZE, SMALL = 9.0, 8.0
"""Points of its text."""
LETTER = 0.6
"""Width of a letter, in its size."""
INK, SOFT, LINE, PAPER = "#1b1f24", "#5b6570", "#d9dee3", "#fefefe"

VERDICT_COLOURS = {"increases": BLUE, "decreases": VERMILION, "negligible": GREEN, "inconclusive": SOFT}

ON_DARK = {
    INK: "#e6e9ed", SOFT: "#a5afb9", LINE: "#3a424b", PAPER: "#15191e",
    BLUE: "#4aa8e8", VERMILION: "#f0803c", GREEN: "#2fc79a", PALETTE[6]: "#e6e9ed",
    PALETTE[7]: "#c2a25a", PALETTE[8]: "#9496e8",
}  # fmt: skip
"""Colour of a figure -> the same on a dark page."""

PLACES = {colour.lower(): place for place, colour in enumerate(ON_DARK)}
ANY_COLOUR = re.compile("|".join(PLACES), re.IGNORECASE)

UNUSED_IDS = r' id="(figure|axes|patch|text|line2d|matplotlib\.axis|xtick|ytick|legend|[A-Z][A-Za-z]+)_\d+"'
"""Matplotlib numbers these in each figure; a page with several figures would have them several times."""

RC: Any = {
    "svg.hashsalt": "medfathom",
    "svg.fonttype": "none",
    "text.parse_math": False,  # a name with a $ in it is no formula
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "sans-serif"],
    "font.size": SIZE,
    "axes.labelsize": SIZE,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": SOFT,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


@dataclass(frozen=True)
class Drawing:
    """A figure of the report.

    Attributes:
        svg: the picture as a file of its own.
        inline: the same as a part of the page.
        data: what it shows.
        caption: how to read it.
    """

    svg: str
    inline: str
    data: pd.DataFrame
    caption: str


@dataclass
class Sheet:
    """A figure while it is drawn.

    Attributes:
        figure: matplotlib's.
        told: what is read when a pointer rests on a mark, in the order of the marks.
    """

    figure: Figure
    told: list[str] = field(default_factory=list)

    def tell(self, mark: Artist, text: str) -> None:
        """What a pointer that rests on the mark reads."""
        mark.set_gid(f"told-{len(self.told)}.")
        self.told.append(text)

    def drawing(self, data: pd.DataFrame, caption: str, alternative: str) -> Drawing:
        """The finished figure; the same picture gives the same text.

        Args:
            data: what it shows, one row a mark.
            caption: how to read it.
            alternative: what it shows, for who cannot see it.
        """
        buffer = StringIO()
        for text in self.figure.findobj(Text):
            if text.get_color() == "black":  # made outside of `RC`: it would vanish on dark paper
                text.set_color(INK)
        with rc_context(RC):
            self.figure.savefig(
                buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
            )
        drawn = buffer.getvalue()
        drawn = re.sub(
            r'<g id="told-(\d+)\.">',
            lambda mark: f'<g class="told"><title>{escape(self.told[int(mark[1])])}</title>',
            drawn,
        )
        label = f'<svg role="img" aria-label="{escape(alternative)}"'
        drawn = re.sub(r"<!--.*?-->\n?|<metadata>.*?</metadata>", "", drawn, flags=re.S)
        drawn = re.sub(UNUSED_IDS, "", drawn).replace("<svg", label, 1)
        return Drawing(drawn, _inline(drawn), data, caption)


def sheet(
    inside: float,
    *,
    width: float = WIDTH,
    left: float = 0.62,
    right: float = 0.14,
    top: float = 0.12,
    bottom: float = 0.5,
    rows: int = 1,
) -> tuple[Sheet, list[Axes]]:
    """An empty figure with so many panels below one another.

    The margins are given, not found by drawing everything twice: a report has dozens of figures.

    Args:
        inside: inches that a panel is high, without its margins.
        width: inches of the whole.
        left: inches of the margin, for the names of lines; see `room_for`.
        right: likewise.
        top: of each panel.
        bottom: of each panel.
        rows: panels.
    """
    height = rows * (inside + top + bottom)
    with rc_context(RC):
        figure = Figure(figsize=(width, height))
        panels = figure.subplots(rows, 1, squeeze=False)[:, 0]
    figure.subplots_adjust(
        left=left / width,
        right=1 - right / width,
        top=1 - top / height,
        bottom=bottom / height,
        hspace=(top + bottom) / inside,
    )
    return Sheet(figure), list(panels)


def room_for(names: Iterable[str], size: float = SIZE) -> float:
    """Inches that the longest of the names takes, and a little."""
    return 0.14 + LETTER * size / 72 * max(map(len, names), default=0)


def _inline(text: str) -> str:
    """An SVG file's text as a part of a page: no head, and the page's colours."""
    body = text[text.index("<svg") :]
    return re.sub(ANY_COLOUR, lambda found: f"var(--c{PLACES[found[0].lower()]})", body)


def colour_variables(*, dark: bool) -> str:
    """The figures' colours as CSS variables."""
    colours: Sequence[str] = list(ON_DARK.values() if dark else ON_DARK)
    return " ".join(f"--c{place}: {colour};" for place, colour in enumerate(colours))


def whisker(axes: Axes, place: float, interval: tuple[float | None, float | None], **style: Any) -> None:
    """A horizontal interval; an open end is drawn to the edge of the panel, with an arrow head."""
    low, high = interval
    if low is None and high is None:
        return
    left, right = axes.get_xlim()
    ends = left if low is None else low, right if high is None else high
    axes.plot(ends, [place, place], solid_capstyle="butt", **style)
    for end, edge, marker in ((low, left, "<"), (high, right, ">")):
        if end is None:
            axes.plot(edge, place, marker, color=style.get("color"), markersize=5, clip_on=False)


def limits(values: Iterable[float | None], *around: float) -> tuple[float, float]:
    """From the least to the greatest of the values and what is around, with some room."""
    known = [*around, *(value for value in values if value is not None)]
    low, high = min(known), max(known)
    room = 0.06 * (high - low) or 0.01
    return low - room, high + room


def slugs(names: Iterable[str]) -> dict[str, str]:
    """Name -> how the names of its files begin: no two alike, in a file system without upper case neither.

    >>> slugs(["OCT/A", "OCT A", "CXR"])
    {'OCT/A': 'OCT_A', 'OCT A': 'OCT_A-2', 'CXR': 'CXR'}
    """
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        plain = "".join(c if c.isalnum() or c in "-_" else "_" for c in name)
        tried = chain([plain], (f"{plain}-{number}" for number in count(2)))
        found[name] = next(slug for slug in tried if slug.casefold() not in taken)
        taken.add(found[name].casefold())
    return found


def signed(value: float | None, digits: int = 3) -> str:
    """A difference for reading.

    >>> signed(-0.01234)
    '−0.012'
    """
    return "–" if value is None else f"{value:+.{digits}f}".replace("-", "−")


def between(interval: tuple[float | None, float | None], digits: int = 3) -> str:
    """An interval of differences for reading; empty for none."""
    low, high = interval
    if low is None and high is None:
        return ""
    ends = "−∞" if low is None else signed(low, digits), "∞" if high is None else signed(high, digits)
    return f"{ends[0]} to {ends[1]}"
