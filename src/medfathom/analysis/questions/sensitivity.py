"""The same question asked slightly otherwise, beside the main line: does the answer hang on one choice?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from medfathom.analysis.effects import CELL
from medfathom.analysis.modality import Modality, modality_of
from medfathom.analysis.predictors import Predictor
from medfathom.analysis.size.association import Variant, slope_on, why_no_slope
from medfathom.analysis.size.estimate import Estimate, estimate_of
from medfathom.analysis.size.inference import Settings

MOST_LEFT_OUT = 20
"""Families or data sets, beyond which leaving out each in turn is not worth the time."""

FLOOR = 1e-4
"""AUCs are held this far from 0 and 1 before the logit."""


@dataclass(frozen=True)
class Changed:
    """A modality under another choice; the predictor plays no part in it.

    Attributes:
        name: the choice, in words.
        unit: of its slopes.
        modality: None where no cell has two architectures left to compare.
    """

    name: str
    unit: str
    modality: Modality | None


def under_other_choices(modality: Modality, rows: pd.DataFrame) -> tuple[Changed, ...]:
    """Another scale of the AUC, each family and each data set left out; the same for every predictor."""
    rows = rows.astype(
        dict.fromkeys(["architecture", "family", *CELL], "category")
    )  # groups are found faster
    found = [
        Changed(name, unit, _rescaled(modality.name, rows, scaled))
        for name, unit, scaled in (
            ("logit AUC", "logit per unit", _logit(rows)),
            ("ranks within cells", "rank (0 to 1) per unit", _ranks(rows)),
        )
    ]
    if 1 < len(modality.family_names) < len(modality.effects.names):
        alone = replace(modality, families=np.arange(len(modality.effects.names)))
        found.append(Changed("each architecture as its own family", "AUC per unit", alone))
    found += [
        Changed(f"without {column} {value}", "AUC per unit", rest)
        for column, value, rest in _with_one_left_out(modality, rows)
    ]
    return tuple(found)


def sensitivity(
    modality: Modality, changed: Iterable[Changed], predictor: Predictor, settings: Settings
) -> tuple[Variant, ...]:
    """Slopes under other choices, and of other measures of size. None decides; p-values are not adjusted."""
    others = (
        _variant(Changed(other.name, f"AUC per {other.scale.step}", modality), other, settings.coarse)
        for other in predictor.alternatives
    )
    return *(_variant(each, predictor, settings.coarse) for each in changed), *others


def _variant(changed: Changed, predictor: Predictor, settings: Settings) -> Variant:
    name, unit, modality = changed.name, changed.unit, changed.modality
    if modality is None:
        return Variant(name, unit, Estimate(), "no cell has two architectures left to compare")
    reason = why_no_slope(modality.values_of(predictor), modality.effects.component)
    if reason:
        return Variant(name, unit, Estimate(), reason)
    return Variant(name, unit, estimate_of(slope_on(modality, predictor, settings)[0]), "")


def _with_one_left_out(modality: Modality, rows: pd.DataFrame) -> Iterator[tuple[str, str, Modality | None]]:
    """(column, value left out, the modality without it) for each family and each data set."""
    for column, values in (("family", modality.family_names), ("dataset", sorted(modality.per_dataset))):
        if 2 <= len(values) <= MOST_LEFT_OUT:
            for value in values:
                yield column, value, modality_of(modality.name, rows[rows[column] != value])


def _rescaled(name: str, rows: pd.DataFrame, scaled: pd.Series[float]) -> Modality | None:
    return modality_of(name, rows.assign(rescaled=scaled), "rescaled")


def _logit(rows: pd.DataFrame) -> pd.Series[float]:
    auc = rows["auc"].clip(FLOOR, 1 - FLOOR)
    scaled: pd.Series[float] = np.log(auc / (1 - auc))  # type: ignore[assignment]
    return scaled


def _ranks(rows: pd.DataFrame) -> pd.Series[float]:
    return rows.groupby(CELL, observed=True)["auc"].rank(pct=True)
