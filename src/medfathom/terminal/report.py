"""`medfathom report` in a terminal."""

from __future__ import annotations

import sys
from pathlib import Path

from medfathom.report import fill_checklist, write_pages
from medfathom.terminal.output import print_json


def print_report(name: str, checklist: str, out: Path | None, storage: str | None, *, as_json: bool) -> None:
    """Print a filled checklist as Markdown or JSON, or write it in every form into a folder."""
    report = fill_checklist(name, checklist, storage=storage)
    from medfathom.reporting.pages import as_markdown, summary_line  # noqa: PLC0415  imports SciPy

    if out is not None:
        files = write_pages(report, out, checklist)
        print(f"{summary_line(report)}\n{', '.join(map(str, files))}", file=sys.stderr)  # noqa: T201
    if as_json:
        print_json(report.to_dict())
    elif out is None:
        print(as_markdown(report), end="")  # noqa: T201
