"""Results as small pieces of HTML, for notebooks: no script, no style sheet, every text escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


def piece(title: str, *parts: str) -> str:
    """A title and what belongs to it; parts are HTML, empty ones are left out."""
    return f"<div><p><strong>{escape(title)}</strong></p>{''.join(parts)}</div>"


def lines(texts: Iterable[str]) -> str:
    """A paragraph for each text that is not empty."""
    return "".join(f"<p>{escape(text)}</p>" for text in texts if text)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; numbers and short texts stand to the right, the first column to the left.

    >>> table(["a", "b"], [["x", 1]])[-60:]
    '<td style="text-align: right">1</td></tr></tbody></table>'
    """
    head = _row("th", columns)
    body = "".join(_row("td", row) for row in rows)
    return f"<table><thead>{head}</thead><tbody>{body}</tbody></table>"


def _row(tag: str, cells: Sequence[object]) -> str:
    sides = ("left", *["right"] * (len(cells) - 1))
    pairs = zip(cells, sides, strict=True)
    inner = (f'<{tag} style="text-align: {side}">{escape(_text(cell))}</{tag}>' for cell, side in pairs)
    return f"<tr>{''.join(inner)}</tr>"


def _text(cell: object) -> str:
    if cell is None:
        return ""
    return f"{cell:.4f}" if isinstance(cell, float) else str(cell)
