"""`report`: a study's record as a reporting checklist asks for it, and a methods paragraph."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from medfathom.definitions.joint import the_one
from medfathom.files import write_atomically
from medfathom.reporting.checklists import read_checklist
from medfathom.study.connection import default_url
from medfathom.study.read import read_study, stored_definition

if TYPE_CHECKING:
    from medfathom.reporting.filled import Report


def fill_checklist(name: str, checklist: str, *, storage: str | None = None) -> Report:
    """Fill a reporting checklist in from a study's record.

    Args:
        name: of a study in the storage, best a confirmed one.
        checklist: `claim`, `tripod-ai` or `stard-ai`.
        storage: an Optuna storage URL.

    Raises:
        InputError: no such checklist or study.
    """
    form = read_checklist(checklist)
    study = read_study(storage or default_url(), name)
    the_one(stored_definition(study).dataset, "report")
    from medfathom.reporting.filled import fill  # noqa: PLC0415  imports SciPy
    from medfathom.reporting.record import gather  # noqa: PLC0415

    return fill(form, gather(study))


def write_pages(report: Report, folder: Path, checklist: str) -> list[Path]:
    """Write a report as Markdown, HTML and JSON into a folder, which is made where it is absent."""
    from medfathom.reporting.pages import as_html, as_markdown  # noqa: PLC0415  imports SciPy

    folder.mkdir(parents=True, exist_ok=True)
    contents = {
        "md": as_markdown(report),
        "html": as_html(report),
        "json": json.dumps(report.to_dict(), indent=1, allow_nan=False) + "\n",
    }
    files = {folder / f"{report.study}-{checklist}.{ending}": text for ending, text in contents.items()}
    for file, text in files.items():
        write_atomically(file, text)
    return list(files)
