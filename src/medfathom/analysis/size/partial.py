"""One predictor's slope with another held fixed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medfathom.analysis.effects import Floats
from medfathom.analysis.modality import Modality
from medfathom.analysis.predictors import Predictor
from medfathom.analysis.size.design import indicators
from medfathom.analysis.size.estimate import Estimate, estimate_of
from medfathom.analysis.size.inference import Settings, noise_shape, regression
from medfathom.analysis.size.permutation import centred

CORRELATED = 0.3
"""Correlation from which one predictor can lend its effect to another."""

ALPHA = 0.05


@dataclass(frozen=True)
class Beside:
    """Two predictors in one regression.

    Attributes:
        own: slope of the predictor asked about, the other held fixed.
        other: slope of the other, this one held fixed.
        correlation: of the two among architectures that can be compared, -1 to 1.
    """

    own: Estimate
    other: Estimate
    correlation: float

    def contradicts(self, slope: float) -> bool:
        """Whether the other predictor explains the slope about as well as the one asked about does.

        The stronger the two correlate, the clearer the one asked about must be ahead: else, where only the
        other acts, chance puts the wrong one ahead too often (simulated in benchmarks/verdicts.py).
        """
        own, other = self.own, self.other
        if own.slope is None or own.p_value is None or other.p_value is None:
            return False
        if abs(self.correlation) < CORRELATED:
            return False
        turned = np.sign(own.slope) != np.sign(slope)
        clearer = (1 - self.correlation**2) ** 2 * other.p_value
        return bool(turned or (own.p_value > ALPHA and clearer < own.p_value))


def beside(modality: Modality, predictor: Predictor, other: Predictor, settings: Settings) -> Beside | None:
    """Both predictors together; None where they cannot be told apart."""
    x = np.column_stack([modality.values_of(predictor), modality.values_of(other)])
    component = modality.effects.component
    within = np.column_stack([centred(column, component) for column in x.T])
    groups = int(component.max()) + 1
    if np.isnan(x).any() or len(x) < groups + 3 or np.linalg.matrix_rank(within, tol=1e-8) < 2:
        return None
    own, others = (partial(modality, x, which, settings) for which in (0, 1))
    return Beside(own, others, float(np.corrcoef(within[:, 0], within[:, 1])[0, 1]))


def partial(modality: Modality, x: Floats, which: int, settings: Settings) -> Estimate:
    """The slope on one column of x (n, 2), the other held fixed."""
    middled = x - x.mean(0)
    X = np.column_stack(
        [indicators(modality.effects.component), middled[:, [1 - which]], middled[:, [which]]]
    )
    noise = noise_shape(modality.effects, X)
    return estimate_of(regression(modality.effects.values, X, modality.families, noise, settings)[0])
