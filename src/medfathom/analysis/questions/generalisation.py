"""Do larger networks overfit more: training AUC less the AUC analysed, against size and training set size.

The AUC analysed is the test split's, or the validation split's where search trials are looked at.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from medfathom.analysis.questions.moderation import usable
from medfathom.analysis.size.association import PREDICTORS, modality_of
from medfathom.analysis.size.inference import Settings, slope_in


def generalisation_gap(rows: pd.DataFrame, settings: Settings) -> dict[str, Any]:
    """Per modality: mean gap and its slope on each predictor; over data sets: its slope on training set
    size."""
    with_both = rows[rows["train_auc"].notna()].copy()
    if with_both.empty:
        return {"modalities": {}, "reason": "no row has a train_auc"}
    with_both["gap"] = with_both["train_auc"] - with_both["auc"]
    modalities = {
        str(name): _by_size(str(name), part, settings)
        for name, part in with_both.groupby("modality", observed=True)
    }
    return {"modalities": modalities, "training_set_size": _by_training_set(with_both), "reason": ""}


def _by_size(name: str, part: pd.DataFrame, settings: Settings) -> dict[str, Any]:
    modality = modality_of(name, part, "gap")
    found: dict[str, Any] = {"mean_gap": float(part["gap"].mean()), "n_rows": len(part), "predictors": {}}
    if modality is None:
        return found | {"reason": "no cell has two architectures to compare"}
    for predictor in PREDICTORS:
        if not usable(modality, predictor):
            continue
        x = modality.predictor(predictor)
        slope, method, _ = slope_in(modality.effects, modality.per_dataset, x, modality.families, settings)
        found["predictors"][predictor] = {
            "slope": slope.estimate,
            "ci95": list(slope.interval(0.95)),
            "p_value": slope.p_value(),
            "method": method,
        }
    few = "" if found["predictors"] else "too few architectures that differ in size"
    return found | {"reason": few}


def _by_training_set(rows: pd.DataFrame) -> dict[str, Any]:
    """Least squares over data sets, each with its mean gap."""
    sizes = (
        rows.groupby("dataset", observed=True)["n_train"].median()
        if "n_train" in rows
        else pd.Series(dtype=float)
    )
    gaps = rows.groupby("dataset", observed=True)["gap"].mean()
    known = sizes[sizes > 0].index
    if len(known) < 4 or sizes[known].nunique() < 2:
        reason = f"training set sizes known for {len(known)} data sets; at least 4 that differ are needed"
        return {"slope": None, "ci95": [None, None], "p_value": None, "reason": reason}
    fit = stats.linregress(np.log10(sizes[known].to_numpy(float)), gaps[known].to_numpy(float))
    reach = float(stats.t.ppf(0.975, len(known) - 2) * fit.stderr)
    ci95 = [float(fit.slope) - reach, float(fit.slope) + reach]
    return {"slope": float(fit.slope), "ci95": ci95, "p_value": float(fit.pvalue), "reason": ""}
