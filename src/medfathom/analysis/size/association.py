"""Does a predictor go with AUC, within one modality?"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import stats

from medfathom.analysis.as_json import FLAT, HIDDEN, OPTIONAL
from medfathom.analysis.effects import Floats, Ints
from medfathom.analysis.modality import Modality
from medfathom.analysis.predictors import PREDICTORS, Predictor
from medfathom.analysis.size.diagnostics import Diagnostics, diagnose
from medfathom.analysis.size.estimate import NO_INTERVAL, Estimate, Interval, estimate_of, interval_of
from medfathom.analysis.size.inference import (
    OverDatasets,
    Settings,
    SlopeInference,
    Spread,
    slope_in,
    slope_of,
)
from medfathom.analysis.size.multiplicity import Verdict, equivalence
from medfathom.analysis.size.partial import Beside, beside
from medfathom.analysis.size.permutation import centred, levels, permutation_slope

SAME = 1e-9
"""Values of a predictor that differ by less (on its transformed scale) are the same."""

MARGINS = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1)
"""Margins, in AUC over the range, at which the equivalence test is shown."""

SPEAKS_FOR = {1: "this data set", 2: "these two data sets"}
SPEAKS_FOR_OTHERS = "data sets of this modality, as far as these represent them"


@dataclass(frozen=True)
class DatasetSlope:
    """The slope within one data set.

    Attributes:
        estimate: of the slope.
        n_architectures: in the data set.
        reason: why there is no slope; empty where there is one.
    """

    estimate: Estimate = field(metadata=FLAT)
    n_architectures: int
    reason: str


@dataclass(frozen=True)
class WithinFamily:
    """The slope among members of the same family, by permutation; all None where it was not asked for.

    Attributes:
        slope: AUC per unit of the predictor; None where no family has two members that differ.
        ci95: its 95 % interval.
        smallest_reachable_p: the smallest p-value that the arrangements can give.
    """

    slope: float | None = None
    ci95: Interval = NO_INTERVAL
    smallest_reachable_p: float | None = None


@dataclass(frozen=True)
class RankCorrelations:
    """Spearman's rho and Kendall's tau-b, -1 to 1, as description only; None where all architectures tie."""

    spearman: float | None
    kendall: float | None


@dataclass(frozen=True)
class Variant:
    """The same slope under another choice, see `questions/sensitivity.py`.

    Attributes:
        name: the choice.
        unit: of the slope.
        estimate: of the slope; its p-value is not adjusted.
        reason: why there is no slope; empty where there is one.
    """

    name: str
    unit: str
    estimate: Estimate = field(metadata=FLAT)
    reason: str


@dataclass(frozen=True, kw_only=True)
class Unadjusted:
    """A predictor's slope taken alone, before the other tests are looked at.

    Attributes:
        predictor: what the slope is on.
        compared: the networks that it is fitted to.
        slope: AUC per unit of the predictor.
        span: units of the predictor from the smallest to the largest architecture.
        range: the predictor's least and greatest value, in its own unit.
        effect: AUC of the largest less that of the smallest, on the line: slope times span.
        effect_ci95: its 95 % interval.
        heterogeneity: how slopes differ between data sets, from two on.
        prediction95: 95 % interval for the effect in another data set, from three on.
        ci95: 95 % interval.
        ci90: 90 % interval; within the margin where the slope is negligible at 5 %.
        p_value: of "no slope", two-sided.
        smallest_reachable_p: the smallest p-value that this design can give.
        p_equivalence: of "the slope is at least a margin away from 0".
        per_dataset: data set -> its own slope.
        ranks: rank correlations of the architectures.
        p_within_family: of "no slope among members of a family"; None where no family has two that differ.
        within_family: the slope that belongs to it.
        n_architectures: that the slope is fitted to.
        margin: AUC over the range, below which an effect does not matter.
        curve_of_margins: margin -> p-value of "the effect is at least so large", before Holm.
        diagnostics: a bend, one network that decides, an outlier.
        beside: other predictor -> both in one regression.
        method: in words.
        speaks_for: which data sets the slope speaks for, in words.
        notes: what is particular about the networks compared.
        sensitivity: the slope under other choices.
    """

    predictor: Predictor = field(metadata=HIDDEN)
    compared: Modality = field(metadata=HIDDEN)
    slope: float
    span: float
    range: tuple[float, float]
    effect: float
    effect_ci95: Interval
    prediction95: Interval
    heterogeneity: Spread | None = field(metadata=OPTIONAL)
    ci95: Interval
    ci90: Interval
    p_value: float
    smallest_reachable_p: float
    p_equivalence: float
    per_dataset: dict[str, DatasetSlope]
    ranks: RankCorrelations = field(metadata=FLAT)
    p_within_family: float | None
    within_family: WithinFamily
    n_architectures: int
    margin: float
    curve_of_margins: dict[str, float]
    diagnostics: Diagnostics
    beside: dict[str, Beside]
    method: str
    speaks_for: str
    notes: tuple[str, ...] = ()
    sensitivity: tuple[Variant, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Association(Unadjusted):
    """A predictor's slope among all tests of the analysis, and the verdict.

    Attributes:
        reason: why the verdict is inconclusive; empty where it is not.
        p_holm: `p_value` adjusted by Holm's method.
        p_equivalence_holm: `p_equivalence`, likewise.
        architectures_needed: to find an effect of the margin with 80 % power; None where no number would do.
        architectures_needed95: its 95 % interval, from that of the residual variance; None: beyond any
            number.
        verdict: in one word.
    """

    reason: str
    p_holm: float
    p_equivalence_holm: float
    architectures_needed: int | None
    architectures_needed95: tuple[int | None, int | None]
    verdict: Verdict


@dataclass(frozen=True, kw_only=True)
class NoSlope:
    """An `Association` where no slope can be fitted: `reason` says why, and the verdict is inconclusive."""

    predictor: Predictor = field(metadata=HIDDEN)
    slope: None = None
    effect: None = None
    effect_ci95: Interval = NO_INTERVAL
    prediction95: Interval = NO_INTERVAL
    p_value: None = None
    smallest_reachable_p: None = None
    p_within_family: None = None
    ranks: RankCorrelations = field(default=RankCorrelations(None, None), metadata=FLAT)
    p_equivalence: None = None
    architectures_needed: None = None
    architectures_needed95: tuple[None, None] = (None, None)
    ci95: Interval = NO_INTERVAL
    ci90: Interval = NO_INTERVAL
    per_dataset: dict[str, DatasetSlope] = field(default_factory=dict)
    within_family: WithinFamily = WithinFamily()
    sensitivity: tuple[Variant, ...] = ()
    notes: tuple[str, ...] = ()
    margin: float
    method: str = "none"
    speaks_for: str = ""
    reason: str
    p_holm: None = None
    p_equivalence_holm: None = None
    verdict: Verdict = "inconclusive"


def associate(
    modality: Modality, predictor: Predictor, *, margin: float, settings: Settings
) -> Unadjusted | NoSlope:
    """The association of one predictor with AUC, before Holm and the verdict.

    Args:
        modality: the architectures.
        predictor: what the slope is on.
        margin: the smallest effect over the range that matters, in AUC.
        settings: how much is simulated.
    """
    x = modality.values_of(predictor)
    reason = why_no_slope(x, modality.effects.component)
    if reason:
        return NoSlope(predictor=predictor, margin=margin, reason=reason)
    inference, method, spread = slope_on(modality, predictor, settings)
    p_within_family, within_family = _within_family(modality, x, settings)
    raw, span = predictor.scale.inverse(np.array([x.min(), x.max()])), float(np.ptp(x))
    return Unadjusted(
        predictor=predictor,
        compared=modality,
        slope=inference.estimate,
        span=span,
        range=(float(raw[0]), float(raw[1])),
        effect=inference.estimate * span,
        effect_ci95=_times(interval_of(inference, 0.95), span),
        prediction95=_times(_prediction(inference, spread), span),
        heterogeneity=spread,
        ci95=interval_of(inference, 0.95),
        ci90=interval_of(inference, 0.90),
        p_value=inference.p_value(),
        smallest_reachable_p=inference.smallest_p,
        p_equivalence=equivalence(inference, margin / span),
        per_dataset=_by_dataset(modality, x, settings),
        ranks=rank_correlations(x, modality.effects.values),
        p_within_family=p_within_family,
        within_family=within_family,
        n_architectures=len(x),
        margin=margin,
        curve_of_margins={f"{m:g}": equivalence(inference, m / span) for m in MARGINS},
        diagnostics=diagnose(modality.effects, x, modality.families, modality.family_names, inference),
        beside=_beside(modality, predictor, settings),
        method=method,
        speaks_for=SPEAKS_FOR.get(len(modality.per_dataset), SPEAKS_FOR_OTHERS),
    )


def _times(interval: Interval, factor: float) -> Interval:
    low, high = interval
    return None if low is None else low * factor, None if high is None else high * factor


def _prediction(inference: SlopeInference, spread: Spread | None) -> Interval:
    """The slope in another data set: the true slopes' own variance is added to that of their mean."""
    if spread is None or not isinstance(inference, OverDatasets):
        return NO_INTERVAL
    added = (spread.extra_variance + spread.tau**2, len(spread.slopes) - 1)
    return interval_of(OverDatasets(inference.within, (added,)), 0.95)


def _beside(modality: Modality, predictor: Predictor, settings: Settings) -> dict[str, Beside]:
    pairs = {
        name: beside(modality, predictor, PREDICTORS[name], settings.coarse) for name in predictor.held_fixed
    }
    return {name: both for name, both in pairs.items() if both is not None}


def slope_on(
    modality: Modality, predictor: Predictor, settings: Settings
) -> tuple[SlopeInference, str, Spread | None]:
    """`slope_in` for a modality: the slope on a predictor, the method's name, the spread over data sets."""
    x = modality.values_of(predictor)
    return slope_in(modality.effects, modality.per_dataset, x, modality.families, settings)


def why_no_slope(x: Floats, component: Ints | None = None) -> str:
    """Why the predictor's values give no slope; empty where they do.

    Args:
        x: shape (n,), one value per architecture.
        component: shape (n,), which architectures can be compared; by default all.
    """
    component = np.zeros(len(x), dtype=np.int64) if component is None else component
    groups = len(np.unique(component))
    if np.isnan(x).any():
        return f"the predictor is not known for {int(np.isnan(x).sum())} of {len(x)} architectures"
    if len(x) < 3:
        return f"{len(x)} architectures can be compared; a slope with an interval needs at least 3"
    if np.ptp(x) <= SAME:
        return f"all {len(x)} architectures have the same value of this predictor"
    if np.abs(centred(x, component)).max() <= SAME:
        return (
            f"the architectures fall into {groups} groups that have no cell in common, and all architectures "
            "of a group have the same value of this predictor"
        )
    return ""


def _by_dataset(modality: Modality, x: Floats, settings: Settings) -> dict[str, DatasetSlope]:
    """The slope within each data set, each by itself."""
    found = {}
    for dataset, effects in modality.per_dataset.items():
        index = modality.effects.places(effects.names)
        reason, estimate = why_no_slope(x[index], effects.component), Estimate()
        if not reason:
            estimate = estimate_of(slope_of(effects, x[index], modality.families[index], settings)[0])
        found[dataset] = DatasetSlope(estimate, len(index), reason)
    return found


def rank_correlations(x: Floats, values: Floats) -> RankCorrelations:
    """Correlations of a predictor (n,) with effects (n,) at architecture level."""
    places = levels(values)
    if places.max() == 0:
        return RankCorrelations(None, None)
    return RankCorrelations(
        float(stats.spearmanr(x, places).statistic), float(stats.kendalltau(x, places).statistic)
    )


def _within_family(modality: Modality, x: Floats, settings: Settings) -> tuple[float | None, WithinFamily]:
    """Slope and p-value by permutation among members of the same family; None where no two of them differ."""
    blocks = modality.families * (int(modality.effects.component.max()) + 1) + modality.effects.component
    if not any(np.ptp(x[blocks == block]) > 0 for block in np.unique(blocks)):
        return None, WithinFamily(smallest_reachable_p=1.0)
    found = permutation_slope(
        modality.effects.values, x, blocks, draws=settings.permutations, seed=settings.seed
    )
    return found.p_value(), WithinFamily(found.estimate, interval_of(found, 0.95), found.smallest_p)
