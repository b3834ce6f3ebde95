"""`medfathom predict`: files in, a table, CSV or JSON out."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.table import Table

from medfathom.errors import InputError
from medfathom.model_folder import write_atomically
from medfathom.predict import Predictions, load

MOST_CLASSES = 8
"""Columns of probabilities in a table; CSV and JSON have all."""


def predict_files(folder: Path, images: Sequence[Path], device: str) -> Predictions:
    """Predict files and folders of files. Raises InputError for a device that is not there."""
    if device != "cpu" and not (device.startswith("cuda") and torch.cuda.is_available()):
        raise InputError(f"--device {device}: no such device here; cpu always works")
    return load(folder, device).predict(list(images))


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


def render(found: Predictions) -> Table:
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
