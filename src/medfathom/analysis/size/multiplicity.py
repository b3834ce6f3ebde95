"""Several tests at once, equivalence, and the verdict in four words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from medfathom.analysis.size.inference import SlopeInference

ALPHA = 0.05
"""The level of every test."""

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


def equivalence(inference: SlopeInference, margin: float) -> float:
    """p-value of two one-sided tests against "at least a margin away from 0" (Schuirmann 1987)."""
    return max(inference.p_greater(-margin), inference.p_less(margin))


def verdict(slope: float, p_adjusted: float, p_equivalence: float, alpha: float = ALPHA) -> Verdict:
    """One of four words.

    Args:
        slope: the estimate.
        p_adjusted: of "no slope", two-sided, adjusted for the other tests.
        p_equivalence: of "the slope is at least a margin away from 0", adjusted likewise.
        alpha: the level.

    Returns:
        `negligible` where the slope is shown to be smaller than the margin, even if it differs significantly
        from 0: such a difference is real and does not matter. Else the slope's direction where it differs
        significantly from 0. Else `inconclusive`, which is never "no effect".
    """
    if p_equivalence <= alpha:
        return "negligible"
    if p_adjusted <= alpha:
        return "increases" if slope > 0 else "decreases"
    return "inconclusive"
