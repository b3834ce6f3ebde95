"""The 95 % interval of average precision; the value itself is in `classification`."""

from __future__ import annotations

import numpy as np

from medfathom.metrics.auc import Flags
from medfathom.metrics.classification import counts_by_threshold
from medfathom.metrics.influences import (
    PRIOR_WEIGHT,
    Ends,
    Estimates,
    Floats,
    Members,
    equivalent,
    logit_intervals,
    repeated,
    scaled,
    sums_within,
)
from medfathom.metrics.shares import wilson_interval
from medfathom.metrics.unknown import is_absent, is_present


def average_precision_interval(flags: Flags, scores: Floats, member: Members) -> Ends:
    """95 % intervals of each column's average precision, and of their mean, by the rule of `influences`.

    Ends lie on the logit scale (Boyd, Eng and Page, ECML PKDD 2013). Their variance, average precision times
    one less it over the number of positive images, takes images as independent and classes as of fixed sizes:
    here it is the general variance beside that of the influence of whole patients. Where the latter is 0
    (average precision 1) or undefined (one patient of a class), the interval is Wilson's of as many trials as
    the positives are worth.

    Args:
        flags: which images are of each class, (n, C), or `UNKNOWN`.
        scores: (n, C).
        member: each image's patient, numbered from 0, (n,).
    """
    found = [_influence(flags[:, c], scores[:, c]) for c in range(scores.shape[1])]
    value, parts = np.array([each[0] for each in found]), np.array([each[1] for each in found])
    known = [is_present(flags).T, is_absent(flags).T]
    counts = [sums_within(which, member) for which in known]
    both, positives = counts[0] + counts[1], equivalent(counts[0])
    with np.errstate(invalid="ignore", divide="ignore"):
        general = value * (1 - value) / positives
    judged = (both > 0).sum(axis=1).astype(np.float64)
    influence = _by_patient(parts, known, counts, member)
    weight = PRIOR_WEIGHT * repeated(both)
    estimates = Estimates(value, influence, judged, judged - 1, general, weight)

    def wilson(c: int) -> tuple[float, float]:
        _, low, high = wilson_interval(value[c] * positives[c], positives[c])
        return float(low), float(high)

    return logit_intervals(estimates, wilson)


def _influence(flags: Flags, scores: Floats) -> tuple[float, Floats]:
    """Average precision of one column, and its derivative by each image's weight, (n,): 0 where not known.

    Weights of a positive image raise the precision at all lower thresholds, those of a negative one lower it.
    """
    ranked, true, false = counts_by_threshold(flags, scores)
    positive, known = is_present(flags), is_present(flags) | is_absent(flags)
    if true[-1] == 0:
        return np.nan, np.zeros(len(flags))
    called, gained = true + false, np.diff(true, prepend=0)
    value = float((gained * true / called).sum() / true[-1])
    raised, lowered = (np.cumsum((gained * by / called**2)[::-1])[::-1] for by in (false, true))
    at = np.searchsorted(-ranked, -scores)
    at[~known] = 0
    parts = np.where(positive, (true / called + raised)[at] - value, -lowered[at]) / true[-1]
    return value, np.where(known, parts, 0.0)


def _by_patient(parts: Floats, known: list[Flags], counts: list[Floats], member: Members) -> Floats:
    """Influences of patients, (C, G): deviations within each class, and by how many of each class there are.

    The three are scaled each by its own number of patients: in a small class the deviations lack most. NaN
    where a class has one patient.
    """
    total, between = np.zeros(counts[0].shape), np.zeros(parts.shape)
    for which, count in zip(known, counts, strict=True):
        mean = (parts * which).sum(axis=1, keepdims=True) / np.maximum(which.sum(axis=1, keepdims=True), 1)
        own = scaled(sums_within((parts - mean) * which, member), count)
        total += own * count.sum(axis=1, keepdims=True)
        between += mean * which
    both = counts[0] + counts[1]
    influence: Floats = total + scaled(sums_within(between, member), both) * both.sum(axis=1, keepdims=True)
    return influence
