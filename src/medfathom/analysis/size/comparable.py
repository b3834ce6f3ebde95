"""Which networks and cells a question about one predictor is asked over."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from scipy import stats

from medfathom.analysis.effects import CELL, comparing_cells
from medfathom.analysis.modality import Modality, modality_of
from medfathom.analysis.predictors import Predictor
from medfathom.analysis.questions.pretraining import WITHOUT_FEATURES
from medfathom.analysis.results import numbers
from medfathom.errors import ResultsError, did_you_mean

ALPHA = 0.05

FEWEST_COMPLETE = 5
"""Architectures in the cells that all of them share, below which all cells are kept."""


def with_columns_of(rows: pd.DataFrame, predictors: Iterable[Predictor]) -> pd.DataFrame:
    """Rows with the predictors' columns as numbers; a contrast's is 1 for its value and 0 for others.

    Raises:
        ResultsError: no row has a contrast's value; a cell of a predictor is no number.
    """
    for predictor in predictors:
        column, equals, level = predictor.column.partition("=")
        if equals:
            words = rows[column].astype(str).str.strip()
            value = (words == level).astype(float)
            if not value.any():
                raise ResultsError(
                    f"--predictor {predictor.column}: no row has {column} = {level!r}; "
                    f"{did_you_mean(level, words.unique())}"
                )
            rows = rows.assign(**{predictor.column: value.where(rows[column].notna())})
        else:
            rows = rows.assign(**{column: numbers(rows, column)})
    return rows


def comparable(
    modality: Modality, rows: pd.DataFrame, predictor: Predictor
) -> tuple[Modality | None, pd.DataFrame, tuple[str, ...]]:
    """The networks with a value of the predictor, their rows, and what was left out, in words."""
    notes: list[str] = []
    if predictor.of_weights:
        rows = _pretrained(rows)
        if rows.empty:
            return (
                None,
                rows,
                (f"{predictor.noun} needs pretrained weights by name, and no row names them",),
            )
    known = rows[predictor.column].notna()
    unknown = sorted(rows.loc[~known, "architecture"].unique())
    unknown = [name for name in unknown if name not in set(rows.loc[known, "architecture"])]
    if unknown and (predictor.of_weights or known.any()):
        notes.append(f"{predictor.noun} is not known for {', '.join(unknown)}")
    if not known.all() and (predictor.of_weights or known.any()):
        rows = rows[known]
    if predictor.of_weights or not known.all():
        found = modality_of(modality.name, rows) if len(rows) else None
        if found is None:
            return None, rows, (*notes, f"no cell compares two networks whose {predictor.noun} is known")
        modality = found
    whole, note = _complete_cells(modality, rows, predictor)
    if whole is not None and note:
        return whole[0], whole[1], (*notes, note)
    return modality, rows, (*notes, note) if note else tuple(notes)


def _pretrained(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of pretrained weights; each set of weights is a network of its own, compared with all others."""
    rows = rows[~rows["init"].isin(WITHOUT_FEATURES)]
    several = rows.groupby("architecture", observed=True)["init"].transform("nunique") > 1
    name = rows["architecture"].where(~several, rows["architecture"] + " (" + rows["init"] + ")")
    return rows.assign(architecture=name, init="pretrained")


def _complete_cells(
    modality: Modality, rows: pd.DataFrame, predictor: Predictor
) -> tuple[tuple[Modality, pd.DataFrame] | None, str]:
    """Only the cells that all architectures share, where absences go with the predictor.

    A cell that large networks lack says nothing about them; how small ones do there would yet count
    for the slope through their means.
    """
    merged = rows.merge(pd.DataFrame({"architecture": modality.effects.names}))
    cells = comparing_cells(merged[["architecture", *CELL]].drop_duplicates())
    share = cells.groupby("architecture", observed=True).size().loc[modality.effects.names].to_numpy(float)
    x = modality.values_of(predictor)
    if np.ptp(share) == 0 or np.isnan(x).any() or np.ptp(x) == 0 or len(x) < FEWEST_COMPLETE:
        return None, ""
    found = stats.spearmanr(share, x)
    if float(found.pvalue) > ALPHA:
        return None, ""
    which = "large" if found.statistic < 0 else "small"
    told = (
        f"the number of missing cells depends on {predictor.noun} "
        f"(rank correlation {found.statistic:.2f}: networks with {which} values lack more)"
    )
    size = cells.groupby(CELL, observed=True)["architecture"].transform("size")
    complete = cells.loc[size == len(x), CELL].drop_duplicates()
    if complete.empty:
        return None, f"{told}; as no cell has all networks, this may bias the slope"
    kept = merged.merge(complete, on=CELL)
    whole = modality_of(modality.name, kept)
    if whole is None:
        return None, told
    return (whole, kept), f"{told}; therefore only the {len(complete)} cells with all networks are used"
