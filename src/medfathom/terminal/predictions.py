"""`medfathom predict` in a terminal: a table, JSON, or a CSV file."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NotRequired, TypedDict

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from medfathom.errors import EXIT_FAILED, InputError
from medfathom.files import write_atomically
from medfathom.models.folder import read_config
from medfathom.terminal.output import complain, print_json, print_text
from medfathom.text import as_cell

if TYPE_CHECKING:
    from medfathom.data.sources.base import Ignored
    from medfathom.exported.predictions import Predictions

MOST_CLASSES = 8
"""Columns of probabilities in a table; CSV and JSON have all."""


class PredictedJson(TypedDict):
    """What a model says of images.

    Attributes:
        positive: the positive class of two; null for other tasks.
        images: a row for each image: `image`, `predicted`, and the probability of each class by its name.
        cases: the same for each case, of a model of cases; `images` of a row is their number.
        unreadable: image -> why it was skipped.
        ignored: files that are not images of the model's kind.
        remarks: how images were changed to fit the model.
    """

    positive: str | None
    images: NotRequired[list[dict[str, object]]]
    cases: NotRequired[list[dict[str, object]]]
    unreadable: dict[str, str]
    ignored: list[Annotated[dict[str, object], Ignored]]
    remarks: list[str]


def print_predictions(
    folder: Path,
    images: Sequence[Path],
    *,
    csv_file: Path | None,
    device: str,
    as_json: bool,
    per_image: bool = False,
    mpp: float | None = None,
) -> int:
    """Predict images with the model in a folder, and print or write what it says.

    Of a model of cases (volumes, slides) a row is a case; with `per_image` it is an image.
    `mpp`: as in `Model.predict`.

    Returns:
        The exit code: 1 where some images could not be read; they are named on standard error.
    """
    read_config(folder)  # a wrong folder is said before torch is imported
    from medfathom.exported.model import predict_files  # noqa: PLC0415

    found = predict_files(folder, images, device, mpp)
    shown = found.of_images if per_image and found.of_images is not None else found
    if csv_file is not None:
        write_csv(shown, csv_file)
    if as_json:
        content: PredictedJson = {
            "positive": found.positive,
            "unreadable": found.unreadable,
            "ignored": [asdict(ignored) for ignored in found.ignored],
            "remarks": found.remarks,
        }
        content["images" if shown.n_images is None else "cases"] = shown.rows()
        print_json(content)
    elif csv_file is None:
        print_text(predictions_text(shown))
    for remark in [*map(str, found.ignored), *found.remarks]:
        complain(remark)
    for name, reason in found.unreadable.items():
        complain(f"{name}: {reason}; skipped")
    return EXIT_FAILED if found.unreadable else 0


def write_csv(found: Predictions, path: Path) -> None:
    """A header, and a row for each image or case. Raises InputError where it cannot be written."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(map(as_cell, found.columns))
    for row in found.rows():
        table.writerow(map(as_cell, row.values()))
    try:
        write_atomically(path, text.getvalue())
    except OSError as error:
        raise InputError(f"--csv {path}: cannot be written ({error.strerror})") from None


def predictions_text(found: Predictions) -> RenderableType:
    """For a terminal: a table, and which of two classes is the positive one."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    n_first = len(found.columns) - len(found.class_names)
    names = found.columns[n_first:][:MOST_CLASSES]
    for column in found.columns[:n_first]:
        table.add_column(column, overflow="fold")
    for name in names:
        table.add_column(Text(name), justify="right", no_wrap=True)
    for row in found.rows():
        # As Text: rich would take a [name] in brackets for a style.
        words = [Text(str(value)) for value in row.values()][:n_first]
        table.add_row(*words, *(f"{row[name]:.4f}" for name in names))
    return table if found.positive is None else Group(table, Text(f"Positive class: {found.positive}", "dim"))
