"""Write what an analysis found: JSON, CSV, figures with their data, and one HTML page that opens offline."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import pandas as pd
from jinja2 import Environment
from markupsafe import Markup

from medfathom.analysis.pipeline import Analysis
from medfathom.analysis.report import sentences
from medfathom.analysis.report.drawing import colour_variables
from medfathom.analysis.report.failures import failure_sentences, failure_table
from medfathom.analysis.report.figures import Figures, draw_all
from medfathom.analysis.report.numbers import interval, number, p_value
from medfathom.analysis.report.opening import opening
from medfathom.analysis.report.pretraining_words import pretraining_lines
from medfathom.analysis.report.tables import tables
from medfathom.analysis.size.association import Association
from medfathom.files import write_atomically
from medfathom.metrics.rules import includes_chance
from medfathom.metrics.tuning import LEAST
from medfathom.text import as_cell, number_of, stratum_words

REPORT_FILE = "report.html"


def write_report(analysis: Analysis, out: Path, pictures: Sequence[tuple[str, Path, str]] = ()) -> list[Path]:
    """Write all files into a folder (made if absent), each beside its name first and then renamed.

    Args:
        analysis: what was found.
        out: the folder.
        pictures: more to show, of confirmed models: (data set, PNG file, what is to be seen).

    Returns:
        The files written: of each figure the picture (SVG) and what it shows (CSV).
    """
    out.mkdir(parents=True, exist_ok=True)
    columns = [c for c in analysis.rows.columns if not str(c).startswith("_")]
    figures = draw_all(analysis)
    texts = {
        "analysis.json": json.dumps(analysis.to_dict(), indent=1, allow_nan=False) + "\n",
        "results.csv": _csv(analysis.rows[columns]),
        REPORT_FILE: page(analysis, figures, pictures),
    }
    for name, drawing in figures.all().items():
        texts[f"{name}.svg"] = drawing.svg
        texts[f"{name}.csv"] = _csv(drawing.data)
    for name, text in texts.items():
        write_atomically(out / name, text)
    return [out / name for name in texts]


def page(analysis: Analysis, figures: Figures, pictures: Sequence[tuple[str, Path, str]] = ()) -> str:
    """The HTML page: text, pictures and tables in one file."""
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"number": number, "interval": interval, "p": p_value, "stratum": stratum_words}
    first = opening(analysis)
    return environment.from_string(_part("report.html.j2")).render(
        found=analysis,
        includes_chance=includes_chance,
        figures=figures,
        style=_part("report.css"),
        script=_part("report.js"),
        light=colour_variables(dark=False),
        dark=colour_variables(dark=True),
        headlines={name: sentences.headline(found) for name, found in analysis.modalities.items()},
        opening=first,
        first=figures.all().get(first.picture) if first else None,
        failures=[(told, failure_sentences(told), failure_table(told)) for told in analysis.studies],
        pretraining=pretraining_lines(analysis.pretraining, analysis.pretraining_benefit, analysis.margin),
        verdicts=sentences.with_verdicts(analysis),
        further=sentences.further(analysis),
        tables=tables(analysis),
        other_axes=_axes(analysis),
        confirmed_pictures=[(name, _png(path, text), text) for name, path, text in pictures],
        compared_models=_compared(analysis),
        n_results=f"{len(analysis.rows):,}",
        words=sentences,
        least_trials=LEAST,
        number_of=number_of,
    )


def _csv(table: pd.DataFrame) -> str:
    """A table as CSV, no cell a formula: see `as_cell`."""
    return table.rename(columns=as_cell).map(as_cell).to_csv(index=False)


def _part(name: str) -> str:
    return files("medfathom.analysis.report").joinpath(name).read_text("utf-8")


def _axes(analysis: Analysis) -> dict[str, str]:
    """Modality -> what AUC is drawn against besides the parameter count."""
    found = {}
    for name, modality in analysis.modalities.items():
        answers = {**modality.predictors, modality.imagenet.predictor.name: modality.imagenet}
        nouns = [a.predictor.noun for a in list(answers.values())[1:] if isinstance(a, Association)]
        found[name] = ", ".join(nouns)
    return found


def _compared(analysis: Analysis) -> list[list[object]]:
    return [
        [
            c["dataset"],
            c["class"],
            *map(stratum_words, pair["models"]),
            number(pair["difference"]),
            interval(pair["bootstrap_ci95"]),
            p_value(pair.get("bootstrap_p_holm")),
            p_value(pair.get("delong_p_holm")),
        ]
        for c in analysis.model_comparison or ()
        for pair in c["pairs"]
    ]


def _png(path: Path, alt: str) -> Markup:
    coded = base64.b64encode(path.read_bytes()).decode()
    return Markup('<img src="data:image/png;base64,{}" alt="{}">').format(coded, alt)
