"""An analysis as a notebook shows it: its verdicts. The report has the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medfathom.analysis.report.numbers import p_value
from medfathom.analysis.report.pretraining_words import pretraining_lines
from medfathom.html import lines, piece, table
from medfathom.text import number_of

if TYPE_CHECKING:
    from medfathom.analysis.pipeline import Analysis, ModalityFindings, NothingCompared
    from medfathom.analysis.size.association import Association, NoSlope

COLUMNS = ("AUC against", "verdict", "over the range", "95 % interval", "p (Holm)", "why")


def analysis_html(found: Analysis) -> str:
    """The verdicts of every modality, what rows were left out, and where the whole report comes from."""
    warning = "Exploratory: these are search trials on validation images, not confirmed results."
    last = [
        *found.notes,
        *(f"Left out: {left.reason} ({left.rows})" for left in found.exclusions),
        "For the full report: medfathom.write_report(analysis, Path('report')).",
    ]
    parts = [_modality(name, each) for name, each in found.modalities.items()]
    said = pretraining_lines(found.pretraining, found.pretraining_benefit, found.margin)
    pretraining = [f"Pretraining, {scope}: {line}" for scope, line in said.items()]
    return piece(
        f"Does size matter? A margin of {found.margin:g} AUC",
        lines([warning] if found.exploratory else []),
        *parts,
        lines(pretraining),
        lines(last),
    )


def _modality(name: str, found: ModalityFindings | NothingCompared) -> str:
    counts = found.counts
    told = (
        f"{name}: {number_of(counts.n_architectures, 'architecture')}, "
        f"{number_of(counts.n_families, 'family')}, {number_of(counts.n_datasets, 'data set')}, "
        f"{number_of(counts.n_cells, 'cell')}"
    )
    answers = [*found.predictors.values(), found.imagenet]
    return lines([told]) + table(COLUMNS, [_row(answer) for answer in answers])


def _row(answer: Association | NoSlope) -> list[object]:
    low, high = answer.effect_ci95
    p = answer.p_equivalence_holm if answer.verdict == "negligible" else answer.p_holm
    return [
        answer.predictor.quantity,
        answer.verdict,
        _signed(answer.effect),
        "" if low is None or high is None else f"{_signed(low)} to {_signed(high)}",
        "" if p is None else p_value(p),
        answer.reason,
    ]


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.4f}"
