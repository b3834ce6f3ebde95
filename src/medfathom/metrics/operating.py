"""Operating points: thresholds for a wanted sensitivity or specificity, and what a decision is worth.

Everything is about one column: the images of a class against the others.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medfathom.metrics.auc import Flags
from medfathom.metrics.classification import border_below, choose_thresholds, counts_by_threshold
from medfathom.metrics.influences import Floats
from medfathom.metrics.rules import ThresholdRule
from medfathom.metrics.unknown import is_absent, is_present

PREVALENCES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
"""At which predictive values are told beside the data's own."""

DECISION_THRESHOLDS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""At which net benefit is told."""


def thresholds_by(rule: ThresholdRule, positive: Flags, scores: Floats) -> Floats:
    """The threshold of each column (C,) by a rule; NaN where a class is missing.

    A wanted sensitivity gives the highest threshold that reaches it on these images, a wanted specificity the
    lowest. Thresholds lie halfway to the next score, as in `choose_thresholds`.

    Args:
        rule: see `rules.ThresholdRule`.
        positive: which images are of each class, (n, C).
        scores: (n, C).
    """
    if rule == "youden":
        return choose_thresholds(positive, scores)
    ((kind, wanted),) = rule.items()
    columns = range(scores.shape[1])
    return np.array([_reaching(kind, wanted, positive[:, c], scores[:, c]) for c in columns])


def _reaching(kind: str, wanted: float, positive: Flags, scores: Floats) -> float:
    ranked, true, false = counts_by_threshold(positive, scores)
    if true[-1] == 0 or false[-1] == 0:
        return float("nan")
    if kind == "sensitivity":
        chosen = int(np.argmax(true / true[-1] >= wanted - ROUNDING))
    else:
        reached = np.flatnonzero(1 - false / false[-1] >= wanted - ROUNDING)
        if not len(reached):  # even the highest score is a negative image's: nothing is called positive
            return float(np.nextafter(ranked[0], np.inf))
        chosen = int(reached[-1])
    return border_below(ranked, chosen)


ROUNDING = 1e-12
"""19 of 20 are a sensitivity of 0.95."""


def net_benefit(positive: Flags, probabilities: Floats, thresholds: Sequence[float]) -> tuple[Floats, Floats]:
    """Net benefit of treating by the model, and of treating everybody, at each threshold probability.

    True positives less false positives times the odds of the threshold, per image (Vickers and Elkin,
    Medical Decision Making 2006). Treating nobody has a net benefit of 0.

    Args:
        positive: which images are of the class, (n,); those of which this is not known are left out.
        probabilities: (n,), in [0, 1].
        thresholds: between 0 and 1: from which probability on one would treat.
    """
    known = is_present(positive) | is_absent(positive)
    flags, values = is_present(positive[known]), probabilities[known]
    at = np.asarray(thresholds, dtype=np.float64)
    called = values[:, None] >= at
    odds, share = at / (1 - at), flags.mean()
    by_model = (called & flags[:, None]).mean(axis=0) - odds * (called & ~flags[:, None]).mean(axis=0)
    everybody: Floats = share - odds * (1 - share)
    return by_model, everybody


def predictive_values(
    sensitivity: float, specificity: float, prevalences: Sequence[float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positive and negative predictive value at other prevalences, by Bayes' rule; NaN: nothing is called so.

    Sensitivity and specificity are taken to be the same there, which another mix of severities can change.

    >>> ppv, npv = predictive_values(0.9, 0.8, [0.1])
    >>> round(float(ppv[0]), 4), round(float(npv[0]), 4)
    (0.3333, 0.9863)
    """
    share = np.asarray(prevalences, dtype=np.float64)
    hit, alarm = sensitivity * share, (1 - specificity) * (1 - share)
    missed, passed = (1 - sensitivity) * share, specificity * (1 - share)
    with np.errstate(invalid="ignore", divide="ignore"):
        return hit / (hit + alarm), passed / (passed + missed)
