"""Do slopes differ between modalities, inits, unfreeze depths?

Tested where it belongs: at the architecture. For two levels of a moderator, each architecture's
difference between them (within the same data set and the rest of the setting) is one number; its slope
on the predictor is the difference of the two slopes. What an architecture does alike at both levels
cancels.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from medfathom.analysis.effects import Effects
from medfathom.analysis.size.association import PREDICTORS, Modality, modality_of, why_no_slope
from medfathom.analysis.size.inference import (
    OverDatasets,
    Settings,
    SlopeInference,
    Spread,
    slope_in,
    spread_of_slopes,
)
from medfathom.analysis.size.multiplicity import holm

MODERATORS = ("init", "unfreeze_depth")
FEWEST = 4
"""Architectures seen at both levels, below which no difference of slopes is estimated."""

MOST_PAIRS = 45
"""Beyond ten levels, pairs are too many to mean anything."""


def within_modality(name: str, rows: pd.DataFrame, settings: Settings) -> dict[str, Any]:
    """Per moderator and predictor: pairs of levels, the slopes' difference, Holm over the pairs."""
    found = {}
    for moderator in MODERATORS:
        levels = sorted(rows[moderator].unique())
        pairs = list(combinations(levels, 2))
        if not pairs or len(pairs) > MOST_PAIRS:
            reason = (
                "one level only" if not pairs else f"{len(levels)} levels are too many to compare in pairs"
            )
            found[moderator] = {"reason": reason, "predictors": {}}
            continue
        differences = {pair: _difference(name, rows, moderator, pair) for pair in pairs}
        predictors = {p: _pairs(differences, p, settings) for p in PREDICTORS}
        few = all(not answer["pairs"] for answer in predictors.values())
        reason = f"no two levels share {FEWEST} architectures within the same cells" if few else ""
        found[moderator] = {"reason": reason, "predictors": predictors}
    return found


def _difference(name: str, rows: pd.DataFrame, moderator: str, pair: tuple[str, str]) -> Modality | None:
    """The modality of differences (second level less first), one for each architecture and remaining "
    "setting."""
    keys = ["architecture", "dataset", *(m for m in MODERATORS if m != moderator)]
    wide = rows.pivot_table(index=keys, columns=moderator, values="auc", aggfunc="mean", observed=True)
    if not set(pair) <= set(wide.columns):
        return None
    change = (wide[pair[1]] - wide[pair[0]]).dropna().rename("auc").reset_index()
    if change["architecture"].nunique() < FEWEST:
        return None
    facts = rows.groupby("architecture", observed=True)[["family", "n_params", "depth"]].first()
    change[moderator] = "difference"
    return modality_of(name, change.join(facts, on="architecture"))


def _pairs(
    differences: Mapping[tuple[str, str], Modality | None], predictor: str, settings: Settings
) -> dict[str, Any]:
    listed = []
    for (first, second), modality in differences.items():
        if modality is None or not usable(modality, predictor):
            continue
        x = modality.predictor(predictor)
        inference, _, _ = slope_in(modality.effects, modality.per_dataset, x, modality.families, settings)
        listed.append({"levels": [first, second]} | _answer(inference, len(x)))
    return _with_holm(listed)


def usable(modality: Modality, predictor: str) -> bool:
    """Whether a slope on the predictor can be had."""
    x = modality.predictor(predictor)
    return len(x) >= FEWEST and not why_no_slope(x, modality.effects.component)


def between_modalities(modalities: Mapping[str, Modality], settings: Settings) -> dict[str, Any]:
    """Per predictor: pairs of modalities, the slopes' difference over the architectures they share."""
    found: dict[str, Any] = {}
    for predictor in PREDICTORS:
        listed = []
        for first, second in combinations(sorted(modalities), 2):
            answer = _two_modalities(modalities[first], modalities[second], predictor, settings)
            if answer:
                listed.append({"levels": [first, second]} | answer)
        reason = ""
        if len(modalities) < 2:
            reason = "one modality only"
        elif not listed:
            reason = f"no two modalities share {FEWEST} architectures that differ in the predictor"
        found[predictor] = _with_holm(listed) | {"reason": reason}
    return found


def _two_modalities(
    first: Modality, second: Modality, predictor: str, settings: Settings
) -> dict[str, Any] | None:
    common = sorted(set(first.effects.names) & set(second.effects.names))
    if len(common) < FEWEST:
        return None
    effects = _contrast(first.effects, second.effects, common)
    place = [second.effects.names.index(name) for name in common]
    x, families = second.predictor(predictor)[place], second.families[place]
    if np.isnan(x).any() or np.ptp(x) == 0 or int(effects.component.max()) > 0:
        return None
    inference: SlopeInference = slope_in(effects, {}, x, families, settings)[0]
    spreads = [spread_of_slopes(m.effects, m.per_dataset, m.predictor(predictor)) for m in (first, second)]
    inference = OverDatasets(inference, tuple(spread.added for spread in spreads if spread))
    speaks_for = "; ".join(map(_speaks_for, (first, second), spreads))
    return _answer(inference, len(common)) | {"speaks_for": speaks_for}


def _speaks_for(modality: Modality, spread: Spread | None) -> str:
    """Which data sets of a modality a difference of slopes speaks for: fewer than three for themselves."""
    count = len(modality.per_dataset)
    if spread is None:
        return f"{modality.name}: only its {count} data set{'' if count == 1 else 's'}"
    return f"{modality.name}: data sets like its {count}"


def _contrast(first: Effects, second: Effects, common: list[str]) -> Effects:
    """Second less first, over the architectures in common; noise taken as even."""
    one, other = ([e.names.index(name) for name in common] for e in (first, second))
    component = first.component[one] * (int(second.component.max()) + 1) + second.component[other]
    values = second.values[other] - first.values[one]
    n = len(common)
    _, component = np.unique(component, return_inverse=True)
    return Effects(common, values, np.eye(n) - 1 / n, component.astype(np.int64), None, 0, 1)


def _answer(inference: SlopeInference, n: int) -> dict[str, Any]:
    return {
        "difference": inference.estimate,
        "ci95": list(inference.interval(0.95)),
        "p_value": inference.p_value(),
        "n_architectures": n,
    }


def _with_holm(listed: list[dict[str, Any]]) -> dict[str, Any]:
    adjusted = holm([answer["p_value"] for answer in listed])
    for answer, p in zip(listed, adjusted, strict=True):
        answer["p_holm"] = p
    return {"pairs": listed, "p_value": min(adjusted, default=None)}
