"""`medfathom analyze`: studies and published tables in, verdicts and a report folder out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from optuna.study import Study
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from medfathom.analysis import Analysis, analyze, from_trials, read_tables, sentences, write_report
from medfathom.compare_confirmed import compare_confirmed
from medfathom.confirmed import (
    analysis_records,
    by_configuration,
    find_confirmation,
    pictures_of_best,
    summarize,
)
from medfathom.errors import ResultsError
from medfathom.notes import VERDICTS, save_note, study_note
from medfathom.shift import with_shifts
from medfathom.storage import default_url, load_study, records, root

VERDICT_STYLE = {"increases": "green", "decreases": "red", "negligible": "cyan", "inconclusive": "yellow"}
PREDICTOR_TITLES = {"log10_params": "parameters, per tenfold", "log2_depth": "depth, per doubling"}


def analyze_all(
    studies: Sequence[str],
    tables: Sequence[Path],
    *,
    storage: str | None = None,
    maps: Mapping[str, str] | None = None,
    wheres: Mapping[str, str] | None = None,
    percent: bool = False,
    exploratory: bool = False,
    out: Path | None = None,
) -> tuple[Analysis, Path]:
    """Analyse studies and tables together and write the report.

    Args:
        studies: names in the storage.
        tables: CSV files of published results.
        storage: an Optuna storage URL.
        maps: column of the contract -> the tables' own name.
        wheres: column -> value that a table's rows must have.
        percent: the tables' AUCs are in per cent.
        exploratory: the studies' search trials are meant, not their confirmed results.
        out: the report's folder.

    Returns:
        The analysis, and the folder.

    Raises:
        InputError: no such study, table or column; a study is not confirmed; values that cannot be used.
    """
    if not studies and not tables:
        raise ResultsError("nothing to analyse: name a study, or give --table FILE.csv")
    frames, exclusions = [], []
    url = storage or default_url()
    found = _studies(url, studies, confirmed=not exploratory)
    if found:
        frame, left_out = from_trials([r for s in found for r in s.records], exploratory=exploratory)
        frames.append(frame)
        exclusions += left_out
    if tables:
        frame, left_out = read_tables(tables, maps, wheres, percent=percent)
        frames.append(frame)
        exclusions += left_out
    name = "-".join([*studies, *(t.stem for t in tables)])
    folder = out or root() / "reports" / name
    analysis = analyze(pd.concat(frames, ignore_index=True), exploratory=exploratory, exclusions=exclusions)
    analysis.content["confirmed"] = [s.summary for s in found if s.summary]
    analysis.content["model_comparison"] = [c for s in found for c in s.comparisons]
    for each in found:
        if each.study is not None:
            _tell(each.study, analysis)
    write_report(analysis, folder, [picture for s in found for picture in s.pictures])
    return analysis, folder


@dataclass(frozen=True)
class _Found:
    """What one study brings into an analysis; of a search only its records."""

    records: list[dict[str, Any]]
    study: Study | None = None
    summary: dict[str, Any] | None = None
    comparisons: list[dict[str, Any]] = field(default_factory=list)
    pictures: list[tuple[str, Path, str]] = field(default_factory=list)


def _studies(url: str, names: Sequence[str], *, confirmed: bool) -> list[_Found]:
    """Raises ResultsError where confirmed results are wanted of a study that has none."""
    found, without = [], []
    for name in names:
        study = load_study(url, name)
        if not confirmed:
            found.append(_Found(with_shifts(_flat(record) for record in records(study))))
            continue
        confirmation = find_confirmation(study)
        if confirmation is None or not by_configuration(confirmation):
            without.append(name)
            continue
        found.append(_confirmed(study, confirmation))
    if without:
        raise ResultsError(
            f"no confirmed results of {', '.join(without)}: `medfathom confirm {without[0]}` makes them; "
            "--exploratory takes the search trials, which suggest but confirm nothing"
        )
    return found


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    """A row of results: curves, versions and the like have no place in a table."""
    return {key: value for key, value in record.items() if not isinstance(value, list | dict)}


def _confirmed(study: Study, confirmation: Study) -> _Found:
    summary = summarize(study, confirmation)
    return _Found(
        with_shifts(_flat(record) for record in analysis_records(study, confirmation)),
        study,
        summary,
        compare_confirmed(study, confirmation),
        pictures_of_best(study, confirmation, summary),
    )


def _tell(study: Study, analysis: Analysis) -> None:
    """Put the verdicts of the study's modality into its note."""
    modality = study.user_attrs["modality"]
    content = analysis.content["modalities"][modality]
    words = [sentences.verdict(modality, p, a, content) for p, a in content["predictors"].items()]
    study.set_user_attr(VERDICTS, words)
    save_note(study, study_note(study, study.get_trials(deepcopy=False)))


def render(analysis: Analysis, folder: Path) -> RenderableType:
    """The architectures and the verdicts as text for a terminal."""
    content = analysis.to_dict()
    parts: list[RenderableType] = []
    if content["exploratory"]:
        parts.append(Text("Exploratory: search trials on validation data, not confirmed results.", "yellow"))
    for modality, found in content["modalities"].items():
        counted = ", ".join(
            f"{found[key]} {key.removeprefix('n_').replace('_', ' ')}"
            for key in ("n_architectures", "n_families", "n_datasets", "n_cells")
        )
        parts.append(Text.assemble((modality, "bold"), f"  {counted}"))
        parts += [_architectures(analysis.rows[analysis.rows["modality"] == modality]), Text()]
        parts += [_verdicts(found["predictors"]), Text()]
    parts += [Text(f"left out: {e['reason']} ({e['rows']})", "dim") for e in content["exclusions"]]
    parts.append(Text(f"Report: {folder}"))
    return Group(*parts)


def _architectures(rows: pd.DataFrame) -> Table:
    """One line per architecture, largest first. Means over different settings are shown, never compared."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("architecture", "family", "parameters", "depth", "results", "mean AUC", "best AUC"):
        left = title in ("architecture", "family")
        table.add_column(title, justify="left" if left else "right", no_wrap=True)
    grouped = rows.groupby(["architecture", "family", "n_params", "depth"])["auc"]
    summary = grouped.agg(["size", "mean", "max"]).reset_index().sort_values("n_params", ascending=False)
    for row in summary.to_dict("records"):
        numbers = f"{row['n_params'] / 1e6:.1f} M", f"{row['depth']:.0f}", str(row["size"])
        aucs = f"{row['mean']:.4f}", f"{row['max']:.4f}"
        table.add_row(str(row["architecture"]), str(row["family"]), *numbers, *aucs)
    return table


def _verdicts(predictors: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("AUC against", "verdict", "slope", "95 % interval", "p (Holm)", "why"):
        table.add_column(title, justify="left" if title in ("AUC against", "verdict", "why") else "right")
    for name, found in predictors.items():
        low, high = found["ci95"] or (None, None)
        table.add_row(
            PREDICTOR_TITLES.get(name, name),
            Text(found["verdict"], style=VERDICT_STYLE[found["verdict"]]),
            _signed(found["slope"]),
            f"{_signed(low)} to {_signed(high)}" if low is not None else "",
            f"{found['p_holm']:.3f}" if found["p_holm"] is not None else "",
            str(found.get("reason") or ""),
        )
    return table


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.4f}"
