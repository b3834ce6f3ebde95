"""The same question asked slightly otherwise, beside the main line: does the answer hang on one choice?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from medfathom.analysis.size.association import OTHER_PREDICTORS, Modality, modality_of, why_no_slope
from medfathom.analysis.size.inference import Settings, slope_in

MOST_LEFT_OUT = 20
"""Families or data sets, beyond which leaving out each in turn is not worth the time."""

FLOOR = 1e-4
"""AUCs are held this far from 0 and 1 before the logit."""


def sensitivity(
    modality: Modality, rows: pd.DataFrame, predictor: str, settings: Settings
) -> list[dict[str, Any]]:
    """Slopes under other choices: scale of the AUC, families and data sets left out, other measures of size.

    None of these decides; p-values are not adjusted. Each entry: `name`, `unit`, `slope`, `ci95`, `p_value`,
    `reason` (why there is no slope, where there is none).
    """
    settings = settings.coarse
    found = [
        _entry("logit AUC", "logit per unit", _rescaled(modality.name, rows, _logit), predictor, settings),
        _entry(
            "ranks within cells",
            "rank (0 to 1) per unit",
            _rescaled(modality.name, rows, _ranks),
            predictor,
            settings,
        ),
    ]
    for column, left_out in (("family", modality.family_names), ("dataset", sorted(modality.per_dataset))):
        if not 2 <= len(left_out) <= MOST_LEFT_OUT:
            continue
        for value in left_out:
            rest = modality_of(modality.name, rows[rows[column] != value])
            found.append(_entry(f"without {column} {value}", "AUC per unit", rest, predictor, settings))
    if predictor == "log10_params":
        found += [_entry(name, "AUC per tenfold", modality, name, settings) for name in OTHER_PREDICTORS]
    return found


def _entry(
    name: str, unit: str, modality: Modality | None, predictor: str, settings: Settings
) -> dict[str, Any]:
    reason = "no cell has two architectures left to compare"
    if modality is not None:
        x = modality.predictor(predictor)
        reason = why_no_slope(x, modality.effects.component)
        if not reason:
            slope, _, _ = slope_in(modality.effects, modality.per_dataset, x, modality.families, settings)
            answer = {"slope": slope.estimate, "ci95": list(slope.interval(0.95)), "p_value": slope.p_value()}
            return {"name": name, "unit": unit, **answer, "reason": ""}
    return {
        "name": name,
        "unit": unit,
        "slope": None,
        "ci95": [None, None],
        "p_value": None,
        "reason": reason,
    }


def _rescaled(name: str, rows: pd.DataFrame, scale: Any) -> Modality | None:
    return modality_of(name, rows.assign(rescaled=scale(rows)), "rescaled")


def _logit(rows: pd.DataFrame) -> pd.Series[float]:
    auc = rows["auc"].clip(FLOOR, 1 - FLOOR)
    scaled: pd.Series[float] = np.log(auc / (1 - auc))  # type: ignore[assignment]
    return scaled


def _ranks(rows: pd.DataFrame) -> pd.Series[float]:
    return rows.groupby(["dataset", "init", "unfreeze_depth"], observed=True)["auc"].rank(pct=True)
