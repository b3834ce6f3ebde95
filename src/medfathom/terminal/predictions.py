"""Predictions as a table for a terminal, or a CSV file."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from rich.table import Table

from medfathom.errors import InputError
from medfathom.exported.model import Predictions
from medfathom.files import write_atomically

MOST_CLASSES = 8
"""Columns of probabilities in a table; CSV and JSON have all."""


def write_csv(found: Predictions, path: Path) -> None:
    """A header, and a row for each image. Raises InputError where it cannot be written."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["image", "predicted", *found.class_names])
    for row in found.rows():
        table.writerow(row.values())
    try:
        write_atomically(path, text.getvalue())
    except OSError as error:
        raise InputError(f"--csv {path}: cannot be written ({error.strerror})") from None


def predictions_text(found: Predictions) -> Table:
    """For a terminal."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("image", overflow="fold")
    table.add_column("predicted")
    names = found.class_names[:MOST_CLASSES]
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for row in found.rows():
        table.add_row(row["image"], row["predicted"], *(f"{row[name]:.4f}" for name in names))
    return table
