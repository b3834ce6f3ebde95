"""Do larger networks overfit more: training AUC minus the AUC analysed, against size and training set size.

The AUC analysed is the test split's, or the validation split's where search trials are looked at.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from medfathom.analysis.as_json import FLAT, OPTIONAL
from medfathom.analysis.modality import modality_of
from medfathom.analysis.predictors import PREDICTORS
from medfathom.analysis.questions.moderation import usable
from medfathom.analysis.size.association import slope_on
from medfathom.analysis.size.estimate import Estimate, estimate_of, slope_over_datasets
from medfathom.analysis.size.inference import Settings


@dataclass(frozen=True)
class GapSlope:
    """The slope of the gap on a predictor, and the name of the method; its p-value is not adjusted."""

    estimate: Estimate = field(metadata=FLAT)
    method: str


@dataclass(frozen=True)
class Gap:
    """One modality's gap.

    Attributes:
        mean_gap: over its rows, in AUC.
        n_rows: that have both AUCs.
        predictors: predictor -> the gap's slope on it.
        reason: why there is no slope; empty where there is one.
    """

    mean_gap: float
    n_rows: int
    predictors: dict[str, GapSlope]
    reason: str


@dataclass(frozen=True)
class GapOverDatasets:
    """The slope of the data sets' mean gaps on log10 of the training set size, and why there is none."""

    estimate: Estimate = field(metadata=FLAT)
    reason: str


@dataclass(frozen=True)
class GeneralisationGap:
    """Training AUC less the AUC analysed.

    Attributes:
        modalities: by name; empty where no row has a training AUC.
        training_set_size: over data sets; None where no row has a training AUC.
        reason: why there is no answer; empty where there is one.
    """

    modalities: dict[str, Gap]
    training_set_size: GapOverDatasets | None = field(metadata=OPTIONAL)
    reason: str


def generalisation_gap(rows: pd.DataFrame, settings: Settings) -> GeneralisationGap:
    """Each modality's mean gap and its slopes on the predictors, and the data sets' on training set size."""
    with_both = rows[rows["train_auc"].notna()].copy()
    if with_both.empty:
        return GeneralisationGap({}, None, "no row has a train_auc")
    with_both["gap"] = with_both["train_auc"] - with_both["auc"]
    modalities = {
        str(name): _by_size(str(name), part, settings)
        for name, part in with_both.groupby("modality", observed=True)
    }
    return GeneralisationGap(modalities, _by_training_set(with_both), "")


def _by_size(name: str, part: pd.DataFrame, settings: Settings) -> Gap:
    modality = modality_of(name, part, "gap")
    mean = float(part["gap"].mean())
    if modality is None:
        return Gap(
            mean,
            len(part),
            {},
            "no two architectures were trained with the same data, init and unfreeze depth",
        )
    slopes = {}
    for predictor in PREDICTORS.values():
        if usable(modality, predictor):
            inference, method, _ = slope_on(modality, predictor, settings)
            slopes[predictor.name] = GapSlope(estimate_of(inference), method)
    return Gap(
        mean, len(part), slopes, "" if slopes else "there are too few architectures that differ in size"
    )


def _by_training_set(rows: pd.DataFrame) -> GapOverDatasets:
    """Least squares over data sets, each with its mean gap."""
    sizes = (
        rows.groupby("dataset", observed=True)["n_train"].median()
        if "n_train" in rows
        else pd.Series(dtype=float)
    )
    gaps = rows.groupby("dataset", observed=True)["gap"].mean()
    known = sizes[sizes > 0].index
    if len(known) < 4 or sizes[known].nunique() < 2:
        reason = (
            f"training set sizes are known for {len(known)} data sets; at least 4 different sizes are needed"
        )
        return GapOverDatasets(Estimate(), reason)
    x, y = np.log10(sizes[known].to_numpy(float)), gaps[known].to_numpy(float)
    return GapOverDatasets(slope_over_datasets(x, y), "")
