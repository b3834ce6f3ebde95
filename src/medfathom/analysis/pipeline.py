"""Rows in, verdicts out: the story of an analysis in one file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from medfathom.analysis.questions.comparison import (
    Covariate,
    benefit_over_datasets,
    pretraining_benefit,
    unfreeze_depths,
)
from medfathom.analysis.questions.generalisation import generalisation_gap
from medfathom.analysis.questions.joint import explained_together, nothing_explained
from medfathom.analysis.questions.moderation import between_modalities, within_modality
from medfathom.analysis.questions.ranking import agreement
from medfathom.analysis.questions.sensitivity import sensitivity
from medfathom.analysis.results import Exclusion
from medfathom.analysis.rows import Lookup, prepare
from medfathom.analysis.size.association import (
    PREDICTORS,
    Modality,
    associate,
    judge,
    modality_of,
    without_answer,
)
from medfathom.analysis.size.inference import Settings

MARGIN = 0.01
"""AUC per tenfold of parameters or doubling of depth, below which a slope does not matter."""


@dataclass(frozen=True)
class Analysis:
    """What an analysis found.

    Attributes:
        content: `analysis.json`.
        rows: the rows analysed.
        modalities: name -> the architectures and their effects.
    """

    content: dict[str, Any]
    rows: pd.DataFrame
    modalities: dict[str, Modality]

    def to_dict(self) -> dict[str, Any]:
        """The content of `analysis.json`: only finite numbers, texts, lists, mappings and None."""
        return self.content


def analyze(
    frame: pd.DataFrame,
    *,
    margin: float = MARGIN,
    exploratory: bool = False,
    permutations: int = 9_999,
    draws: int = 12_000,
    seed: int = 0,
    exclusions: Iterable[Exclusion] = (),
    lookup: Lookup | None = None,
) -> Analysis:
    """Answer the study's questions from a table of results.

    Args:
        frame: one row per result: `architecture dataset modality auc`, and what else `results.COLUMNS` names.
        margin: AUC per unit of a predictor below which a slope is negligible.
        exploratory: the rows are search trials; everything is labelled so.
        permutations: arrangements drawn where all are too many.
        draws: simulated data sets at each family variance, from which the calibration is had.
        seed: of everything random; the same seed gives the same numbers.
        exclusions: rows left out before, to be counted with those left out here.
        lookup: architecture name -> facts, by default the catalog's.

    Raises:
        ResultsError: in one line, for rows that cannot be used.
    """
    settings = Settings(permutations, draws, seed)
    rows, left_out = prepare(frame, lookup)
    with threadpool_limits(1):  # the matrices are tiny: threads of BLAS only wait for one another
        return _analysed(rows, [*exclusions, *left_out], margin, exploratory, settings)


def _analysed(
    rows: pd.DataFrame, excluded: list[Exclusion], margin: float, exploratory: bool, settings: Settings
) -> Analysis:
    modalities: dict[str, Modality] = {}
    found: dict[tuple[str, str], dict[str, Any]] = {}
    content: dict[str, dict[str, Any]] = {}
    for name, part in rows.groupby("modality", sort=True):
        modality = modality_of(str(name), part)
        if modality is None:
            excluded.append(Exclusion(f"{name}: no cell compares two architectures", len(part)))
            content[str(name)] = _nothing_to_compare(part, margin)
            continue
        if modality.n_rows < len(part):
            excluded.append(
                Exclusion(f"{name}: the only architecture of its cell", len(part) - modality.n_rows)
            )
        modalities[str(name)] = modality
        predictors = {p: associate(modality, p, margin=margin, settings=settings) for p in PREDICTORS}
        found |= {(str(name), p): answer for p, answer in predictors.items()}
        content[str(name)] = _counts(modality) | {"predictors": predictors}
        content[str(name)] |= {
            "joint": explained_together(modality, settings.coarse),
            "moderation": within_modality(str(name), part, settings.coarse),
        }
    judge(found)
    for name, modality in modalities.items():
        for predictor, answer in content[name]["predictors"].items():
            answer["sensitivity"] = sensitivity(modality, _of(rows, name), predictor, settings)
    benefits = pretraining_benefit(rows, settings.coarse)
    whole = {
        "schema": 1,
        "exploratory": exploratory,
        "margin": margin,
        "seed": settings.seed,
        "permutations": settings.permutations,
        "exclusions": [exclusion.to_dict() for exclusion in excluded],
        "modalities": content,
        "modality_difference": between_modalities(modalities, settings.coarse),
        "pretraining_benefit": benefits,
        "pretraining_over_datasets": benefit_over_datasets(
            benefits, rows, _covariates(rows), settings.coarse
        ),
        "unfreeze_depth": unfreeze_depths(rows, settings.coarse),
        "ranking_agreement": agreement(rows, draws=settings.permutations, seed=settings.seed),
        "generalisation_gap": generalisation_gap(rows, settings.coarse),
    }
    return Analysis(plain(whole), rows, modalities)


def _of(rows: pd.DataFrame, modality: str) -> pd.DataFrame:
    return rows[rows["modality"] == modality]


def _covariates(rows: pd.DataFrame) -> dict[str, Covariate]:
    """What is known of data sets: training set size and domain shift."""
    sizes = rows.groupby("dataset", observed=True)["n_train"].median()
    return {"log10_n_train": Covariate(np.log10(sizes)), "domain_shift": _domain_shift(rows)}


def _domain_shift(rows: pd.DataFrame) -> Covariate:
    """Data sets as the same architectures see them: some networks see every shift larger than others do."""
    measured = rows[rows["domain_shift"].notna()].pivot_table(
        index="architecture", columns="dataset", values="domain_shift", aggfunc="median", observed=True
    )
    everywhere = measured.dropna()
    reason = ""
    if everywhere.empty and not measured.empty:
        reason = (
            f"no architecture's domain shift is known for all of the {measured.shape[1]} data sets with one; "
            "measure the same with `medfathom data shift`"
        )
    return Covariate(everywhere.mean(), reason, list(map(str, everywhere.index)))


def _counts(modality: Modality) -> dict[str, Any]:
    return {
        "datasets": sorted(modality.per_dataset),
        "n_datasets": len(modality.per_dataset),
        "n_architectures": len(modality.effects.names),
        "n_families": len(modality.family_names),
        "n_cells": modality.effects.n_cells,
        "n_rows": modality.n_rows,
    }


def _nothing_to_compare(part: pd.DataFrame, margin: float) -> dict[str, Any]:
    reason = "no cell (data set, init, unfreeze depth) has two architectures to compare"
    predictors = {p: without_answer(margin, reason) for p in PREDICTORS}
    judge({("", p): answer for p, answer in predictors.items()})
    return {
        "joint": nothing_explained(reason),
        "moderation": {},
        "datasets": sorted(part["dataset"].unique()),
        "n_datasets": part["dataset"].nunique(),
        "n_architectures": part["architecture"].nunique(),
        "n_families": part["family"].nunique(),
        "n_cells": 0,
        "n_rows": 0,
        "predictors": predictors,
    }


def plain(value: Any) -> Any:
    """As JSON can have it: numpy's numbers become Python's, and what is not finite becomes None."""
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(inner) for inner in value]
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value
