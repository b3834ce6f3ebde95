"""`medfathom analyze` in a terminal: the architectures and the verdicts."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from medfathom.errors import InputError
from medfathom.terminal.log import logged_steps
from medfathom.terminal.output import print_json, print_text
from medfathom.terminal.tables import Column, FittedTable
from medfathom.text import clock, number_of

if TYPE_CHECKING:
    import pandas as pd

    from medfathom.analysis import Analysis
    from medfathom.analysis.size.association import Association, NoSlope

NETWORKS = (
    Column("architecture", left=True),
    Column("family", left=True, minor=2),
    Column("parameters"),
    Column("depth", minor=1),
    Column("results", minor=3),
    Column("mean AUC"),
    Column("best AUC"),
)

VERDICTS = (
    Column("AUC against", left=True),
    Column("verdict", left=True),
    Column("over the range"),
    Column("95 % interval"),
    Column("p (Holm)", minor=1),
)

VERDICT_STYLE = {"increases": "green", "decreases": "red", "negligible": "cyan", "inconclusive": "yellow"}


def print_analysis(
    studies: Sequence[str],
    tables: Sequence[Path],
    *,
    storage: str | None,
    maps: Sequence[str],
    wheres: Sequence[str],
    fixed: Sequence[str],
    names: Sequence[str],
    settings: Sequence[str],
    best_by: str | None,
    wide: str | None,
    margin: float | None,
    predictors: Sequence[str],
    percent: bool,
    exploratory: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Analyse as `analyze_all` does and print the verdicts; maps, wheres, fixed and names are NAME=VALUE."""
    stray = [name for name in studies if "=" in name]
    if stray:
        raise InputError(
            f"{stray[0]}: no study; --map, --where and the like take one pair each: --map {stray[0]}"
        )
    pairs = named_pairs(maps, wheres, fixed, names)
    from medfathom.analysis.tables import Reading  # noqa: PLC0415
    from medfathom.answer import analyze_all  # noqa: PLC0415

    began, name = time.monotonic(), "-".join([*studies, *(table.stem for table in tables)])
    analysis, folder = analyze_all(
        studies,
        tables,
        storage=storage,
        reading=Reading(
            maps=pairs[0],
            wheres=pairs[1],
            fixed=pairs[2],
            names=pairs[3],
            settings=settings,
            best_by=best_by,
            wide=columns_of(wide),
            percent=percent,
        ),
        margin=margin_of(margin),
        predictors=predictors,
        exploratory=exploratory,
        out=out,
    )
    with logged_steps("analyze", name[:60]) as step:
        step(f"{len(analysis.rows):,} results analysed in {clock(time.monotonic() - began)}")
    if as_json:
        print_json(analysis.to_dict())
    else:
        print_text(analysis_text(analysis, folder))


def margin_of(given: float | None) -> float:
    """The margin asked for, or the default.

    Raises:
        InputError: it is no difference between AUCs.
    """
    from medfathom.analysis.pipeline import MARGIN  # noqa: PLC0415

    if given is not None and not 0 < given < 1:
        raise InputError(f"--margin {given:g}: expected an AUC between 0 and 1")
    return MARGIN if given is None else given


def named_pairs(
    maps: Sequence[str], wheres: Sequence[str], fixed: Sequence[str], names: Sequence[str]
) -> list[dict[str, str]]:
    """The NAME=VALUE options about tables as mappings, in the order of the arguments."""
    options = (("--map", maps), ("--where", wheres), ("--set", fixed), ("--name", names))
    return [_pairs(option, given) for option, given in options]


def columns_of(text: str | None) -> list[str]:
    """Names separated by commas."""
    return [column.strip() for column in text.split(",")] if text else []


def _pairs(option: str, given: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not (name and equals and (value or option == "--set")):
            raise InputError(f"{option} {text}: expected NAME=VALUE")
        pairs[name] = value
    return pairs


def analysis_text(analysis: Analysis, folder: Path) -> RenderableType:
    """The architectures and the verdicts as text for a terminal; what is missing where there are none."""
    from medfathom.analysis.report.failures import failure_sentences  # noqa: PLC0415
    from medfathom.analysis.report.opening import opening  # noqa: PLC0415
    from medfathom.analysis.report.pretraining_words import pretraining_lines  # noqa: PLC0415  imports pandas
    from medfathom.analysis.report.report import REPORT_FILE  # noqa: PLC0415  imports pandas
    from medfathom.analysis.report.sentences import headline  # noqa: PLC0415  imports pandas

    parts: list[RenderableType] = []
    if analysis.exploratory:
        parts.append(
            Text(
                "Exploratory: these are search trials on validation images, not confirmed results.", "yellow"
            )
        )
    if first := opening(analysis):
        parts += [Text(first.title, "bold"), Text(first.answer), *map(Text, first.details), Text()]
    for modality, found in analysis.modalities.items():
        counts = found.counts
        counted = (
            f"{number_of(counts.n_architectures, 'architecture')}, {number_of(counts.n_families, 'family')}, "
            f"{number_of(counts.n_datasets, 'data set')}, {number_of(counts.n_cells, 'cell')}"
        )
        parts.append(Text.assemble((modality, "bold"), f"  {counted}"))
        parts += [_architectures(analysis.rows[analysis.rows["modality"] == modality]), Text()]
        if not counts.n_cells:
            parts += [Text(headline(found), "yellow"), Text()]
            continue
        parts += [_verdicts({**found.predictors, "imagenet": found.imagenet}), Text()]
    for scope, line in pretraining_lines(
        analysis.pretraining, analysis.pretraining_benefit, analysis.margin
    ).items():
        parts.append(Text.assemble((f"Pretraining, {scope}: ", "bold"), line))
    for told in analysis.studies:
        if told.leakage:
            parts.append(Text(f"{told.study}: {told.leakage}", "yellow"))
        parts += map(Text, failure_sentences(told))
        if told.positive:
            parts.append(Text(f"Positive class of {told.study}: {told.positive}", "dim"))
    parts += [Text(f"note: {note}", "dim") for note in analysis.notes]
    parts += [Text(f"left out: {left.reason} ({left.rows})", "dim") for left in analysis.exclusions]
    parts.append(Text(f"Report: {folder / REPORT_FILE}"))
    return Group(*parts)


def _architectures(rows: pd.DataFrame) -> FittedTable:
    """One line per architecture, largest first. Means over different settings are shown, never compared."""
    table = FittedTable(NETWORKS)
    grouped = rows.groupby(["architecture", "family", "n_params", "depth"])["auc"]
    summary = grouped.agg(["size", "mean", "max"]).reset_index().sort_values("n_params", ascending=False)
    for row in summary.to_dict("records"):
        numbers = f"{row['n_params'] / 1e6:.1f} M", f"{row['depth']:.0f}", str(row["size"])
        aucs = f"{row['mean']:.4f}", f"{row['max']:.4f}"
        table.add_row(str(row["architecture"]), str(row["family"]), *numbers, *aucs)
    return table


def _verdicts(predictors: Mapping[str, Association | NoSlope]) -> RenderableType:
    """A line for each predictor; below, why those of them stand as they do that have a reason."""
    table = FittedTable(VERDICTS)
    for found in predictors.values():
        low, high = found.effect_ci95
        table.add_row(
            found.predictor.quantity,
            Text(found.verdict, style=VERDICT_STYLE[found.verdict]),
            _signed(found.effect),
            f"{_signed(low)} to {_signed(high)}" if low is not None and high is not None else "",
            _p(found),
        )
    reasons = [Text(f"{f.predictor.quantity}: {f.reason}") for f in predictors.values() if f.reason]
    return Group(table, *reasons)


def _p(found: Association | NoSlope) -> str:
    """The p-value of the test that the verdict rests on."""
    from medfathom.analysis.report.numbers import p_value  # noqa: PLC0415  imports pandas

    value = found.p_equivalence_holm if found.verdict == "negligible" else found.p_holm
    return "" if value is None else p_value(value)


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.4f}"
