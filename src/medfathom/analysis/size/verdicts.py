"""The verdicts over all modalities and predictors, why some are inconclusive, and what would change that."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from math import factorial
from typing import TypeVar

import numpy as np
from scipy import stats
from scipy.special import stdtrit

from medfathom.analysis.size.association import Association, NoSlope, Unadjusted
from medfathom.analysis.size.inference import reach_of_spread
from medfathom.analysis.size.multiplicity import ALPHA, Verdict, holm, verdict
from medfathom.analysis.size.objections import against_direction, against_negligible
from medfathom.text import number_of

POWER = 0.80

MOST_ARCHITECTURES = 100_000
"""Beyond so many architectures none are asked for."""

Key = TypeVar("Key", bound=Hashable)


def judge(found: Mapping[Key, Unadjusted | NoSlope]) -> dict[Key, Association | NoSlope]:
    """Adjust the p-values by Holm's method, over all that have one, and reach the verdicts."""
    answered = {key: answer for key, answer in found.items() if isinstance(answer, Unadjusted)}
    p_holm = holm([answer.p_value for answer in answered.values()])
    p_equivalence = holm([answer.p_equivalence for answer in answered.values()])
    adjusted = dict(zip(answered, zip(p_holm, p_equivalence, strict=True), strict=True))
    return {
        key: answer if isinstance(answer, NoSlope) else _judged(answer, *adjusted[key], len(answered))
        for key, answer in found.items()
    }


def _judged(answer: Unadjusted, p_holm: float, p_equivalence: float, tests: int) -> Association:
    word: Verdict = verdict(answer.slope, p_holm, p_equivalence)
    objection = {"negligible": against_negligible, "inconclusive": _no_objection}.get(
        word, against_direction
    )(answer)
    reason = objection
    if word == "inconclusive":
        reason = _why_inconclusive(answer, tests) + _more_data_sets(answer, tests)
    return Association(
        **vars(answer),
        reason=reason,
        p_holm=p_holm,
        p_equivalence_holm=p_equivalence,
        architectures_needed=architectures_needed(answer, tests),
        architectures_needed95=_needed_interval(answer, tests),
        verdict="inconclusive" if objection else word,
    )


def _no_objection(answer: Unadjusted) -> str:
    return ""


def architectures_needed(answer: Unadjusted, tests: int, noise: float = 1.0) -> int | None:
    """Architectures, spread like these, with which an effect of the margin would be found with 80 % power.

    At 5 % over all tests (Bonferroni, which Holm's first step is). The standard error is read off the 90 %
    interval less the spread over data sets, and shrinks with the root of n - 2; the spread does not shrink.
    Never fewer than a permutation test needs for such a level. None where no number would do.

    Args:
        answer: of the pilot.
        tests: that Holm's method adjusts for.
        noise: a factor on the standard error.
    """
    margin = _left_by_spread(answer, tests)
    low, high = answer.ci90
    if low is None or high is None or margin <= 0:
        return None
    half = np.abs(np.array([low, high]) - answer.slope)
    alpha = ALPHA / tests
    df = max(answer.n_architectures - 2, 1)
    spread = reach_of_spread(_added(answer), 0.95)
    error = noise * float(np.sqrt(np.maximum(half**2 - spread**2, 0)).mean() / stats.t.ppf(0.95, df))
    counts = np.concatenate([np.arange(_fewest(alpha), 500), np.geomspace(500, MOST_ARCHITECTURES, 400)])
    own = counts - 2
    reach = (stdtrit(own, 1 - alpha / 2) + stdtrit(own, POWER)) * error * np.sqrt(df / own)
    enough = np.flatnonzero(reach <= margin)
    return int(np.ceil(counts[enough[0]])) if len(enough) else None


def _fewest(alpha: float) -> int:
    """Architectures whose arrangements can give a two-sided p-value of alpha."""
    return next(count for count in range(4, 20) if 2 / factorial(count) <= alpha)


def _needed_interval(answer: Unadjusted, tests: int) -> tuple[int | None, int | None]:
    """95 %: the residual variance of a pilot of n architectures is a chi-squared on n - 2."""
    df = max(answer.n_architectures - 2, 1)
    low, high = (float(np.sqrt(df / stats.chi2.ppf(q, df))) for q in (0.975, 0.025))
    return architectures_needed(answer, tests, low), architectures_needed(answer, tests, high)


def _added(answer: Unadjusted) -> list[tuple[float, int]]:
    """What the data sets' own slopes add to the slope's variance, with its degrees of freedom."""
    spread = answer.heterogeneity
    return [spread.added] if spread and spread.stands_for_others else []


def _left_by_spread(answer: Unadjusted, tests: int) -> float:
    """Of the margin, what the spread over data sets leaves for the architectures' own error; 0 for none."""
    added = _added(answer)
    spread = reach_of_spread(added, 1 - ALPHA / tests / 2) + reach_of_spread(added, POWER)
    return float(np.sqrt(max((answer.margin / answer.span) ** 2 - spread**2, 0.0)))


def _why_inconclusive(answer: Unadjusted, tests: int) -> str:
    least = min(1.0, answer.smallest_reachable_p * tests)
    if least > ALPHA:
        return (
            "there are too few architectures: whatever their AUCs, p cannot be below "
            f"{answer.smallest_reachable_p:.2g} ({least:.2g} after Holm correction for "
            f"{number_of(tests, 'test')})"
        )
    if answer.p_value <= ALPHA or answer.p_equivalence <= ALPHA:
        what = "significant" if answer.p_value <= ALPHA else "within the margin"
        return f"{what} on its own, but not after Holm correction for {number_of(tests, 'test')}"
    if None in answer.ci95:
        return "this design allows no interval for the slope"
    return "the data fit both no effect and an effect large enough to matter"


def _more_data_sets(answer: Unadjusted, tests: int) -> str:
    """That no number of architectures would do, where it would not."""
    if not _added(answer) or _left_by_spread(answer, tests) > 0:
        return ""
    return (
        f"; slopes differ so much between these {len(answer.per_dataset)} data sets that only more data "
        "sets can help, not more architectures"
    )
