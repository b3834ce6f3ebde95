"""Random-effects synthesis of independent estimates, with Hartung and Knapp's interval.

For estimates whose errors are independent of one another (data sets, when what is estimated is the mean over
architectures of a difference within each). Slopes over the same architectures are not: see `inference`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.optimize import brentq

from medfathom.analysis.cells import Floats


@dataclass(frozen=True)
class Synthesis:
    """A mean effect over studies.

    Attributes:
        estimate: weighted mean.
        standard_error: Hartung and Knapp's.
        ci95: its interval, on k - 1 degrees of freedom.
        p_value: of "no effect", two-sided.
        tau2: variance of the true effects, Paule and Mandel's estimate.
        q: Cochran's.
        p_heterogeneity: of "one true effect".
        i2: share of the estimates' variance that is not sampling error (Higgins).
        prediction95: where the true effect of a new study lies, k - 2 degrees of freedom; None for k < 3.
    """

    estimate: float
    standard_error: float
    ci95: tuple[float, float]
    p_value: float
    tau2: float
    q: float
    p_heterogeneity: float
    i2: float
    prediction95: tuple[float, float] | None


def hartung_knapp(estimates: Floats, variances: Floats) -> Synthesis:
    """Random-effects mean (Hartung 1999; Knapp and Hartung 2003), tau^2 by Paule and Mandel (1982).

    Args:
        estimates: shape (k,), k >= 2.
        variances: shape (k,), each estimate's sampling variance, positive.
    """
    k = len(estimates)
    tau2 = paule_mandel(estimates, variances)
    weight = 1 / (variances + tau2)
    mean = float(weight @ estimates / weight.sum())
    error = float(np.sqrt(weight @ (estimates - mean) ** 2 / ((k - 1) * weight.sum())))
    reach = float(stats.t.ppf(0.975, k - 1)) * error
    fixed = 1 / variances
    q = float(fixed @ (estimates - fixed @ estimates / fixed.sum()) ** 2)
    prediction = None
    if k >= 3:
        wide = float(stats.t.ppf(0.975, k - 2) * np.sqrt(tau2 + error**2))
        prediction = (mean - wide, mean + wide)
    p_value = float(2 * stats.t.sf(abs(mean) / error, k - 1)) if error > 0 else float(mean == 0)
    return Synthesis(
        estimate=mean,
        standard_error=error,
        ci95=(mean - reach, mean + reach),
        p_value=p_value,
        tau2=tau2,
        q=q,
        p_heterogeneity=float(stats.chi2.sf(q, k - 1)),
        i2=max(0.0, 1 - (k - 1) / q) if q > 0 else 0.0,
        prediction95=prediction,
    )


def paule_mandel(estimates: Floats, variances: Floats) -> float:
    """The tau^2 at which the weighted squares equal their expectation, k - 1; 0 where there is none."""

    def excess(tau2: float) -> float:
        weight = 1 / (variances + tau2)
        return float(weight @ (estimates - weight @ estimates / weight.sum()) ** 2) - (len(estimates) - 1)

    if excess(0.0) <= 0:
        return 0.0
    high = float(np.var(estimates, ddof=1)) + float(variances.max())
    while excess(high) > 0:
        high *= 2
    return float(brentq(excess, 0.0, high, xtol=1e-15, rtol=1e-14))
