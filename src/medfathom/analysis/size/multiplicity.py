"""Several tests at once, equivalence, and the verdict in four words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy.special import stdtr

Verdict = Literal["increases", "decreases", "negligible", "inconclusive"]


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order given (Holm 1979, Scand. J. Statist. 6:65).

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return [float(value) for value in adjusted]


def verdict(slope: float, p_adjusted: float, p_equivalence: float, alpha: float = 0.05) -> Verdict:
    """One of four words.

    Args:
        slope: the estimate.
        p_adjusted: of "no slope", two-sided, adjusted for the other tests.
        p_equivalence: of "the slope is at least a margin away from 0", adjusted likewise.
        alpha: the level.

    Returns:
        `negligible` where the slope is shown to be smaller than the margin (even if it is told from 0: a
        difference that is real and does not matter), else its direction where it is told from 0,
        else `inconclusive`, which is never "no effect".
    """
    if p_equivalence <= alpha:
        return "negligible"
    if p_adjusted <= alpha:
        return "increases" if slope > 0 else "decreases"
    return "inconclusive"


def equivalence(estimate: float, standard_error: float, df: float, margin: float) -> float:
    """p-value of two one-sided t tests against "at least a margin away from 0" (Schuirmann 1987).

    Args:
        estimate: what is shown to lie within (-margin, margin).
        standard_error: of it, positive.
        df: degrees of freedom.
        margin: positive.
    """
    above = stdtr(df, -(estimate + margin) / standard_error)
    below = stdtr(df, (estimate - margin) / standard_error)
    return float(max(above, below))
