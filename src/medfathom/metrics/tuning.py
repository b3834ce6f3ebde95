"""What tuning is expected to reach with fewer trials: which of m trials would have been chosen.

Dodge et al., Show Your Work (EMNLP 2019), expect the best of m trials from n that were run. Their estimate
draws with replacement and is biased downwards; drawing without (Tang et al., ACL 2020) is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import ArrayLike

from medfathom.metrics.choice import best_first
from medfathom.metrics.influences import Floats
from medfathom.metrics.rules import MARGIN, Rule


def chances_of_choice(auc: ArrayLike, log_loss: ArrayLike, m: int, by: Rule) -> Floats:
    """How probable it is that each of n trials is the choice among m that are drawn without replacement.

    Args:
        auc: in [0, 1], (n,).
        log_loss: (n,); NaN where it is not known.
        m: how many are drawn, 1 to n.
        by: the rule, as in `metrics.choice.best_first`.

    Returns:
        (n,), which add up to 1.

    >>> chances_of_choice([0.7, 0.8, 0.9], [np.nan] * 3, 2, "auc").round(3).tolist()
    [0.0, 0.333, 0.667]
    """
    values, losses = np.asarray(auc, dtype=np.float64), np.asarray(log_loss, dtype=np.float64)
    n = len(values)
    if by == "auc_then_log_loss" and not np.isnan(losses).any():
        return _within_margin(values, losses, m)
    chances = np.empty(n)
    chances[best_first(values, losses, by)] = _shares(n, m, m - 1)[::-1]
    return chances


def _shares(n: int, m: int, more: int) -> Floats:
    """Of all ways to draw m of n the share in which `more` are drawn from k given ones, k = 0 to n - 1."""
    ways = comb(n, m)
    return np.array([comb(k, more) / ways if more >= 0 else 0.0 for k in range(n)])


def _within_margin(auc: Floats, losses: Floats, m: int) -> Floats:
    """For each trial that may be the highest of those drawn: which trial within the margin is then chosen."""
    n = len(auc)
    by_auc = best_first(auc, losses, "auc")[::-1]  # the lowest first
    ranked, alone, with_another = auc[by_auc], _shares(n, m, m - 1), _shares(n, m, m - 2)
    chances = np.zeros(n)
    for highest in range(n):
        first = int(np.searchsorted(ranked[: highest + 1], ranked[highest] - MARGIN))
        within = by_auc[first : highest + 1]
        # The least log loss first: the choice is the first that is drawn, and the highest is drawn.
        order = within[best_first(auc[within], losses[within], "log_loss")]
        for passed, trial in enumerate(order):
            if trial == by_auc[highest]:
                chances[trial] += alone[highest - passed]
                break
            chances[trial] += with_another[highest - passed - 1]
    return chances


QUANTILE = 4.302652729911275
"""Student's .975 with 2 degrees of freedom: what n trials tell of the best of n / 2 is little more than two
values tell of their mean. `benchmarks/results/tuning.md` has the coverage."""

LEAST = 8
"""Trials from which on an interval is given: with fewer it holds the truth too seldom."""


SURE = 0.95
"""In such a share of studies."""


def rarest_met(n: int) -> int:
    """n random trials meet settings that one random trial in so many has, in 95 % of all studies.

    >>> rarest_met(8), rarest_met(32)
    (3, 11)
    """
    return int(1 / (1 - (1 - SURE) ** (1 / n)))


@dataclass(frozen=True)
class Expected:
    """The AUC of the choice among m trials, in expectation, with its 95 % interval; NaN: none is given."""

    value: float
    low: float
    high: float


def expected_choice(auc: ArrayLike, log_loss: ArrayLike, m: int, by: Rule) -> Expected:
    """The expected AUC of the choice among m trials, from n that were run as independent draws.

    Without bias (without replacement); the interval from the jackknife. It is honest up to m = n / 2, and
    knows nothing of settings so rare that none of the n has them: see `rarest_met`.

    Args:
        auc: in [0, 1], (n,).
        log_loss: (n,); NaN where it is not known.
        m: 1 to n.
        by: the rule.
    """
    values, losses = np.asarray(auc, dtype=np.float64), np.asarray(log_loss, dtype=np.float64)
    n = len(values)
    value = float(chances_of_choice(values, losses, m, by) @ values)
    if n < LEAST or 2 * m > n:
        return Expected(value, np.nan, np.nan)
    rest = [np.delete(np.arange(n), i) for i in range(n)]
    without = np.array([chances_of_choice(values[r], losses[r], m, by) @ values[r] for r in rest])
    reach = QUANTILE * float(np.sqrt((n - 1) / n * np.square(without - without.mean()).sum()))
    return Expected(value, max(value - reach, 0.0), min(value + reach, 1.0))
