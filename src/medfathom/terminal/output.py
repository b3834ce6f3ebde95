"""Where words go: a table for people, or JSON for machines, to standard output."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from rich.console import Console, RenderableType

PIPED_COLUMNS = 1000
"""Width of what goes into a file or a pipe: rich would take 80 columns, and cut numbers off."""


def print_json(value: Any) -> None:
    """One JSON value, to be read by a program. NaN and infinity are refused: they are no JSON."""
    print(json.dumps(value, indent=2, allow_nan=False))  # noqa: T201


def print_text(text: RenderableType) -> None:
    """For people: colours in a terminal, plain text elsewhere, where no line is cut, wrapped or padded."""
    console = Console()
    if console.is_terminal:
        console.print(text)
        return
    if "COLUMNS" not in os.environ:
        console = Console(width=PIPED_COLUMNS)
    with console.capture() as written:
        console.print(text)
    # rich pads the cells of a table to the width of their column, the last one too.
    print("\n".join(line.rstrip() for line in written.get().splitlines()))  # noqa: T201


def complain(text: str) -> None:
    """One line to standard error, in the form of every error."""
    print(f"medfathom: {text}", file=sys.stderr)  # noqa: T201
