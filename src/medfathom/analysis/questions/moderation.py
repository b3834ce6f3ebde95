"""Do slopes differ between modalities, inits, unfreeze depths?

Tested where it belongs: at the architecture. For two levels of a moderator, each architecture's
difference between them (within the same data set and the rest of the setting) is one number; its slope
on the predictor is the difference of the two slopes. What an architecture does alike at both levels
cancels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np
import pandas as pd

from medfathom.analysis.as_json import OPTIONAL
from medfathom.analysis.effects import SETTING, Effects
from medfathom.analysis.modality import Modality, modality_of
from medfathom.analysis.predictors import PREDICTORS, Predictor
from medfathom.analysis.size.association import slope_on, why_no_slope
from medfathom.analysis.size.estimate import Interval, interval_of
from medfathom.analysis.size.inference import (
    OverDatasets,
    Settings,
    SlopeInference,
    Spread,
    slope_in,
    spread_of_slopes,
)
from medfathom.analysis.size.multiplicity import holm

MODERATORS = tuple(SETTING)
FEWEST = 4
"""Architectures seen at both levels, below which no difference of slopes is estimated."""

MOST_PAIRS = 45
"""Beyond ten levels, pairs are too many to mean anything."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The slope at the second level less that at the first.

    Attributes:
        levels: the two.
        difference: of the slopes, AUC per unit of the predictor.
        ci95: its 95 % interval.
        p_value: of "the slopes are equal".
        n_architectures: seen at both levels.
        speaks_for: which data sets it speaks for, in words; for modalities only.
        p_holm: `p_value` adjusted over the pairs of levels.
    """

    levels: tuple[str, str]
    difference: float
    ci95: Interval
    p_value: float
    n_architectures: int
    speaks_for: str | None = field(default=None, metadata=OPTIONAL)
    p_holm: float


@dataclass(frozen=True)
class Differences:
    """All pairs of levels, and the p-value of "all slopes are equal"; None without pairs."""

    pairs: list[Difference]
    p_value: float | None


@dataclass(frozen=True)
class Moderation:
    """Whether a moderator's level changes slopes.

    Attributes:
        reason: why there is no answer; empty where there is one.
        predictors: predictor -> differences of its slopes.
    """

    reason: str
    predictors: dict[str, Differences]


@dataclass(frozen=True)
class ModalityDifferences(Differences):
    """Differences between modalities; `reason` says why there are none."""

    reason: str


def within_modality(name: str, rows: pd.DataFrame, settings: Settings) -> dict[str, Moderation]:
    """Per moderator and predictor: pairs of levels, the slopes' difference, Holm over the pairs."""
    return {moderator: _moderation(name, rows, moderator, settings) for moderator in MODERATORS}


def _moderation(name: str, rows: pd.DataFrame, moderator: str, settings: Settings) -> Moderation:
    levels = sorted(rows[moderator].unique())
    pairs = list(combinations(levels, 2))
    if not pairs:
        return Moderation("there is only one level", {})
    if len(pairs) > MOST_PAIRS:
        return Moderation(f"{len(levels)} levels are too many to compare in pairs", {})
    differences = {pair: _difference(name, rows, moderator, pair) for pair in pairs}
    predictors = {p.name: _pairs(differences, p, settings) for p in PREDICTORS.values()}
    few = not any(answer.pairs for answer in predictors.values())
    reason = f"no two levels share {FEWEST} architectures within the same cells" if few else ""
    return Moderation(reason, predictors)


def _difference(name: str, rows: pd.DataFrame, moderator: str, pair: tuple[str, str]) -> Modality | None:
    """The modality whose AUCs are differences between two levels: the second less the first."""
    keys = ["architecture", "dataset", *(m for m in MODERATORS if m != moderator)]
    wide = rows.pivot_table(index=keys, columns=moderator, values="auc", aggfunc="mean", observed=True)
    if not set(pair) <= set(wide.columns):
        return None
    change = (wide[pair[1]] - wide[pair[0]]).dropna().rename("auc").reset_index()
    if change["architecture"].nunique() < FEWEST:
        return None
    columns = ["family", *(predictor.column for predictor in PREDICTORS.values())]
    facts = rows.groupby("architecture", observed=True)[columns].first()
    change[moderator] = "difference"
    return modality_of(name, change.join(facts, on="architecture"))


def _pairs(
    differences: Mapping[tuple[str, str], Modality | None], predictor: Predictor, settings: Settings
) -> Differences:
    listed = [
        _answer(pair, slope_on(modality, predictor, settings)[0], len(modality.effects.names))
        for pair, modality in differences.items()
        if modality is not None and usable(modality, predictor)
    ]
    return _with_holm(listed)


def usable(modality: Modality, predictor: Predictor) -> bool:
    """Whether a slope on the predictor can be fitted."""
    x = modality.values_of(predictor)
    return len(x) >= FEWEST and not why_no_slope(x, modality.effects.component)


def between_modalities(
    modalities: Mapping[str, Modality], settings: Settings
) -> dict[str, ModalityDifferences]:
    """Per predictor: pairs of modalities, the slopes' difference over the architectures they share."""
    found = {}
    for predictor in PREDICTORS.values():
        pairs = combinations(sorted(modalities), 2)
        answers = (_two_modalities(modalities[a], modalities[b], predictor, settings) for a, b in pairs)
        listed = [answer for answer in answers if answer is not None]
        reason = ""
        if len(modalities) < 2:
            reason = "there is only one modality"
        elif not listed:
            reason = f"no two modalities share {FEWEST} architectures that differ in the predictor"
        found[predictor.name] = ModalityDifferences(**vars(_with_holm(listed)), reason=reason)
    return found


def _two_modalities(
    first: Modality, second: Modality, predictor: Predictor, settings: Settings
) -> Difference | None:
    common = sorted(set(first.effects.names) & set(second.effects.names))
    if len(common) < FEWEST:
        return None
    effects = _contrast(first.effects, second.effects, common)
    place = second.effects.places(common)
    x, families = second.values_of(predictor)[place], second.families[place]
    if np.isnan(x).any() or np.ptp(x) == 0 or int(effects.component.max()) > 0:
        return None
    within, _, _ = slope_in(effects, {}, x, families, settings)
    spreads = [spread_of_slopes(m.effects, m.per_dataset, m.values_of(predictor)) for m in (first, second)]
    over = OverDatasets(
        within, tuple(spread.added for spread in spreads if spread and spread.stands_for_others)
    )
    answer = _answer((first.name, second.name), over, len(common))
    return replace(answer, speaks_for="; ".join(map(_speaks_for, (first, second), spreads)))


def _speaks_for(modality: Modality, spread: Spread | None) -> str:
    """Which data sets of a modality a difference of slopes speaks for: fewer than three for themselves."""
    count = len(modality.per_dataset)
    if spread is None or not spread.stands_for_others:
        return f"{modality.name}: only its {count} data set{'' if count == 1 else 's'}"
    return f"{modality.name}: data sets like its {count}"


def _contrast(first: Effects, second: Effects, common: list[str]) -> Effects:
    """Second less first, over the architectures in common; noise taken as even."""
    one, other = first.places(common), second.places(common)
    component = first.component[one] * (int(second.component.max()) + 1) + second.component[other]
    values = second.values[other] - first.values[one]
    n = len(common)
    _, component = np.unique(component, return_inverse=True)
    return Effects(common, values, np.eye(n) - 1 / n, component.astype(np.int64), None, 0, 1)


def _answer(levels: tuple[str, str], inference: SlopeInference, n: int) -> Difference:
    p_value = inference.p_value()
    return Difference(
        levels=levels,
        difference=inference.estimate,
        ci95=interval_of(inference, 0.95),
        p_value=p_value,
        n_architectures=n,
        p_holm=p_value,
    )


def _with_holm(listed: Sequence[Difference]) -> Differences:
    adjusted = holm([answer.p_value for answer in listed])
    pairs = [replace(answer, p_holm=p) for answer, p in zip(listed, adjusted, strict=True)]
    return Differences(pairs, min(adjusted, default=None))
