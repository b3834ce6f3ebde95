"""Write what an analysis found: analysis.json, results.csv, figures, and one HTML page that opens offline."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

import pandas as pd
from jinja2 import Environment
from markupsafe import Markup

from medfathom.analysis.pipeline import Analysis
from medfathom.analysis.report import sentences
from medfathom.analysis.report.figures import Drawing, draw_all
from medfathom.analysis.report.overview import overview_table
from medfathom.analysis.size.estimate import Interval
from medfathom.files import write_atomically

MOST_ROWS = 600
"""Rows of results shown in the page; results.csv has all."""


def write_report(analysis: Analysis, out: Path, pictures: Sequence[tuple[str, Path, str]] = ()) -> list[Path]:
    """Write all files into a folder (made if absent), each beside its name first and then renamed.

    Args:
        analysis: what was found.
        out: the folder.
        pictures: more to show, of confirmed models: (data set, PNG file, what is to be seen).

    Returns:
        The files written.
    """
    out.mkdir(parents=True, exist_ok=True)
    columns = [c for c in analysis.rows.columns if not str(c).startswith("_")]
    drawn = draw_all(analysis)
    texts = {
        "analysis.json": json.dumps(analysis.to_dict(), indent=1, allow_nan=False) + "\n",
        "overview.csv": overview_table(analysis).to_csv(index=False),
        "results.csv": analysis.rows[columns].to_csv(index=False),
        **{name: drawing.svg for name, drawing in drawn.items()},
        "report.html": page(analysis, drawn, pictures),
    }
    for name, text in texts.items():
        write_atomically(out / name, text)
    return [out / name for name in texts]


def page(
    analysis: Analysis,
    drawn: Mapping[str, Drawing],
    pictures: Sequence[tuple[str, Path, str]] = (),
) -> str:
    """The HTML page: text, pictures and tables in one file."""
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"number": number, "interval": interval, "p": p_value}
    template = environment.from_string(
        files("medfathom.analysis.report").joinpath("report.html.j2").read_text("utf-8")
    )
    return template.render(
        found=analysis,
        sentences={name: sentences.verdicts(name, found) for name, found in analysis.modalities.items()},
        figures={
            name: [file for file, drawing in drawn.items() if drawing.modality == name]
            for name in analysis.modalities
        },
        images={file: _image(drawing) for file, drawing in drawn.items()},
        captions={file: drawing.caption for file, drawing in drawn.items()},
        confirmed_pictures=[(name, _png(path, text), text) for name, path, text in pictures],
        results=_cell_means(analysis.rows),
        n_results=len(analysis.rows),
        most_rows=MOST_ROWS,
        headlines={name: sentences.headline(name, found) for name, found in analysis.modalities.items()},
        imagenet={
            name: sentences.verdict(name, found.imagenet, found.counts)
            for name, found in analysis.modalities.items()
        },
        words=sentences,
    )


def _image(drawing: Drawing) -> Markup:
    coded = base64.b64encode(drawing.svg.encode()).decode()
    return Markup('<img src="data:image/svg+xml;base64,{}" alt="{}">').format(coded, drawing.caption)


def _png(path: Path, alt: str) -> Markup:
    coded = base64.b64encode(path.read_bytes()).decode()
    return Markup('<img src="data:image/png;base64,{}" alt="{}">').format(coded, alt)


def _cell_means(rows: pd.DataFrame) -> Sequence[object]:
    """One row per architecture and cell: mean AUC and how many runs."""
    keys = ["modality", "dataset", "architecture", "family", "init", "unfreeze_depth"]
    table = rows.groupby(keys, observed=True, sort=True).agg(
        auc=("auc", "mean"), runs=("auc", "size"), n_params=("n_params", "median"), depth=("depth", "median")
    )
    return list(table.reset_index().head(MOST_ROWS).itertuples(index=False, name="CellMean"))


def number(value: float | None, digits: int = 4) -> str:
    """A number for reading; a dash where there is none."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}f}".replace("-", "−")


def interval(ends: Interval, digits: int = 4) -> str:
    """An interval for reading; unbounded ends are said to be so."""
    if ends[0] is None and ends[1] is None:
        return "–"
    low, high = ("unbounded" if end is None else number(end, digits) for end in ends)
    return f"{low} to {high}"


def p_value(value: float | None) -> str:
    """A p-value for reading."""
    if value is None:
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
