"""Two predictors together: what each explains alone, what they explain in common."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from medfathom.analysis.as_json import FLAT
from medfathom.analysis.effects import Floats
from medfathom.analysis.modality import Modality
from medfathom.analysis.predictors import PREDICTORS
from medfathom.analysis.size.association import SAME
from medfathom.analysis.size.design import indicators
from medfathom.analysis.size.estimate import Estimate
from medfathom.analysis.size.inference import Settings
from medfathom.analysis.size.partial import partial
from medfathom.analysis.size.permutation import ROUNDING, centred

STRONG_CORRELATION = 0.8
"""From here on two predictors can hardly be told apart (variance inflation 2.8)."""

FEWEST_BEYOND = 5
"""Architectures beyond the groups that share cells: two predictors and three degrees of freedom."""


@dataclass(frozen=True, kw_only=True)
class Joint:
    """Commonality analysis of two predictors at architecture level (Mood 1971); None where there is none.

    Attributes:
        r2_unique: predictor -> what R^2 loses without it.
        r2_shared: what either predictor could explain; negative where one hides the other.
        r2_total: share of the variance between architectures that both explain, 0 to 1.
        r2_adjusted: the same less what two predictors without an effect would explain by chance; can
            be negative.
        predictor_correlation: Pearson's, within architectures that can be compared, -1 to 1.
        variance_inflation: 1 / (1 - correlation^2).
        partial: predictor -> its slope with the other held fixed.
        reason: why there is no answer, or why to beware of it; else empty.
    """

    r2_unique: dict[str, float | None] = field(metadata=FLAT)
    r2_shared: float | None = None
    r2_total: float | None = None
    r2_adjusted: float | None = None
    predictor_correlation: float | None = None
    variance_inflation: float | None = None
    partial: dict[str, Estimate] = field(default_factory=dict)
    reason: str


def explained_together(modality: Modality, settings: Settings) -> Joint:
    """What the two predictors explain, each with and without the other."""
    names = list(PREDICTORS)
    x = np.column_stack([modality.values_of(predictor) for predictor in PREDICTORS.values()])
    values, component = modality.effects.values, modality.effects.component
    within = np.column_stack([centred(column, component) for column in x.T])
    groups = indicators(component)
    reason = _why_not(within, groups.shape[1])
    if reason:
        return nothing_explained(reason)
    both = _r_squared(values, groups, x)
    alone = [_r_squared(values, groups, x[:, [i]]) for i in range(2)]
    correlation = float(np.corrcoef(within[:, 0], within[:, 1])[0, 1])
    beware = "the two predictors are so strongly correlated here that their slopes can hardly be separated"
    return Joint(
        r2_unique={name: both - alone[1 - i] for i, name in enumerate(names)},
        r2_shared=alone[0] + alone[1] - both,
        r2_total=both,
        r2_adjusted=1 - (1 - both) * (len(values) - groups.shape[1]) / (len(values) - groups.shape[1] - 2),
        predictor_correlation=correlation,
        variance_inflation=1 / (1 - correlation**2),
        partial={name: partial(modality, x, i, settings) for i, name in enumerate(names)},
        reason=beware if abs(correlation) >= STRONG_CORRELATION else "",
    )


def nothing_explained(reason: str) -> Joint:
    """No answer, and why."""
    return Joint(r2_unique=dict.fromkeys(PREDICTORS), reason=reason)


def _why_not(x: Floats, groups: int) -> str:
    """Why two predictors (n, 2), centred in each of the groups that share cells, cannot be told apart."""
    if np.isnan(x).any():
        return "a predictor is not known for every architecture"
    if np.abs(x).max(0).min() <= SAME:
        among = "" if groups == 1 else " among the architectures of each group that shares cells"
        return f"a predictor has one value only{among}"
    if np.linalg.matrix_rank(x, tol=1e-8) < 2:
        return "the two predictors are exact functions of each other here"
    if len(x) < groups + FEWEST_BEYOND:
        return (
            f"{len(x)} architectures are too few to divide variance between two predictors; at least "
            f"{groups + FEWEST_BEYOND} are needed"
        )
    return ""


def _r_squared(values: Floats, groups: Floats, x: Floats) -> float:
    centred = values - groups @ np.linalg.lstsq(groups, values, rcond=None)[0]
    total = float(centred @ centred)
    if total <= ROUNDING**2 * len(values):
        return 0.0
    X = np.column_stack([groups, x])
    residual = values - X @ np.linalg.lstsq(X, values, rcond=None)[0]
    return 1 - float(residual @ residual) / total
