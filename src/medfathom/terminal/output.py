"""Where words go: a table for people, or JSON for machines, to standard output."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console, RenderableType


def print_json(value: Any) -> None:
    """One JSON value, to be read by a program. NaN and infinity are refused: they are no JSON."""
    print(json.dumps(value, indent=2, allow_nan=False))  # noqa: T201


def print_text(text: RenderableType) -> None:
    """For people: colours in a terminal, plain text elsewhere."""
    Console().print(text)


def complain(text: str) -> None:
    """One line to standard error, in the form of every error."""
    print(f"medfathom: {text}", file=sys.stderr)  # noqa: T201
