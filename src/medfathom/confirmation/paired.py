"""Models compared image by image on the same test set: DeLong, and the bootstrap over patients.

Both take the images as the sample. They say whether two *fitted models* differ on images like these, not
whether their architectures do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from medfathom.analysis.size.multiplicity import holm
from medfathom.confirmation.json_forms import PairJson
from medfathom.errors import ResultsError
from medfathom.metrics.auc import Counts, Delong, Flags, delong, weighted_auc
from medfathom.metrics.influences import PRIOR_WEIGHT, Bools, Floats, Members
from medfathom.metrics.intervals import Interval
from medfathom.metrics.unknown import is_absent, is_present

FEWEST_IMAGES = 2
"""Inside a class, and outside of it: an AUC from fewer has no error."""

LEAST_REPEATED = 0.4
"""Share of repeated images that a correlation is drawn to 0 for, at least: so that models which rank these
images alike are not said to rank all alike."""


@dataclass(frozen=True)
class JudgedModel:
    """One model on the shared test images.

    Attributes:
        auc: in [0, 1].
        ci95: by the bootstrap over patients.
    """

    auc: float
    ci95: Interval


@dataclass(frozen=True)
class DifferenceTest:
    """A test of "these two models have the same AUC".

    Attributes:
        ci95: of the difference.
        p_value: two-sided.
        p_holm: the same, adjusted by Holm's method over all pairs.
    """

    ci95: Interval
    p_value: float
    p_holm: float


@dataclass(frozen=True)
class ComparedPair:
    """Two models on the same images.

    Attributes:
        models: their names; differences are the first minus the second.
        difference: of the AUCs, in [-1, 1].
        delong: None where several images belong to one patient: it takes images as independent.
        bootstrap: over patients; over images where no patients are known.
    """

    models: tuple[str, str]
    difference: float
    delong: DifferenceTest | None
    bootstrap: DifferenceTest

    def to_dict(self) -> PairJson:
        """JSON form, an entry of `model_comparison.pairs` in `analysis.json`."""
        content: PairJson = {
            "models": list(self.models),
            "difference": self.difference,
            "delong_ci95": list(self.delong.ci95) if self.delong else [None, None],
            "delong_p": self.delong.p_value if self.delong else None,
            "bootstrap_ci95": list(self.bootstrap.ci95),
            "bootstrap_p": self.bootstrap.p_value,
            "bootstrap_p_holm": self.bootstrap.p_holm,
        }
        return {**content, "delong_p_holm": self.delong.p_holm} if self.delong else content


@dataclass(frozen=True)
class ModelComparison:
    """All pairs of some models on the same images.

    Attributes:
        models: by name.
        pairs: every two of them.
        n_images: that all were judged on.
        groups: whether several images belong to one patient.
    """

    models: Mapping[str, JudgedModel]
    pairs: Sequence[ComparedPair]
    n_images: int
    groups: bool


def compare_models(
    positive: Flags,
    scores: Mapping[str, Floats],
    groups: Sequence[object] | None = None,
    *,
    resamples: int = 2_000,
    seed: int = 0,
) -> ModelComparison:
    """Compare all pairs of models: DeLong where images are independent, bootstrap over groups always.

    Args:
        positive: which images are of the class, (n,); an image of which this is not known is left out.
        scores: model -> (n,), higher means of the class; at least one model.
        groups: each image's patient, (n,); None: not known.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        ResultsError: fewer than `FEWEST_IMAGES` inside or outside of the class, or scores that are not finite
            or of another number of images.
    """
    names = sorted(scores)
    _check(positive, [scores[name] for name in names])
    known = is_present(positive) | is_absent(positive)
    positive = is_present(positive[known])
    groups = None if groups is None else [group for group, kept in zip(groups, known, strict=True) if kept]
    table = np.array([scores[name] for name in names], dtype=float)[:, known]
    independent = groups is None or len(set(groups)) == len(positive)
    samples = bootstrap_aucs(positive, table, groups, resamples=resamples, seed=seed)
    found = delong(positive, table.T)
    pairs = list(combinations(range(len(names)), 2))
    exact = [found.difference(first, second) for first, second in pairs]
    by_delong: list[DifferenceTest | None] = [None for _ in pairs]
    if independent:
        by_delong = [*_tests([e.ci95 for e in exact], [e.p_value for e in exact])]
    changes = [samples[first] - samples[second] for first, second in pairs]
    by_bootstrap = _tests([_percentiles(c) for c in changes], [bootstrap_p(c) for c in changes])
    return ModelComparison(
        {n: JudgedModel(float(found.auc[i]), _percentiles(samples[i])) for i, n in enumerate(names)},
        [
            ComparedPair((names[first], names[second]), e.value, d, b)
            for (first, second), e, d, b in zip(pairs, exact, by_delong, by_bootstrap, strict=True)
        ],
        len(positive),
        not independent,
    )


def _check(positive: Flags, scores: Sequence[Floats]) -> None:
    """Raise ResultsError for what cannot be compared."""
    sizes = {len(positive), *map(len, scores)}
    if len(sizes) > 1:
        raise ResultsError(f"predictions of the same images are needed, but got {sorted(sizes)} images")
    if not all(np.isfinite(column).all() for column in scores):
        raise ResultsError("predictions: a score is not finite")
    if min(is_present(positive).sum(), is_absent(positive).sum()) < FEWEST_IMAGES:
        raise ResultsError(
            f"predictions: the error of an AUC needs {FEWEST_IMAGES} images of the class and as many others"
        )


def _tests(intervals: Sequence[Interval], p_values: Sequence[float]) -> list[DifferenceTest]:
    """Of all pairs, by one method."""
    adjusted = holm(p_values)
    return [DifferenceTest(*values) for values in zip(intervals, p_values, adjusted, strict=True)]


def _percentiles(values: Floats) -> Interval:
    low, high = np.quantile(values, [0.025, 0.975]).tolist()
    return low, high


def bootstrap_p(differences: Floats) -> float:
    """Two-sided p-value of "no difference": twice the share of resamples on the far side of 0, never 0."""
    count = len(differences)
    side = min(np.sum(differences <= 0), np.sum(differences >= 0))
    return float(min(1.0, 2 * (side + 1) / (count + 1)))


def bootstrap_aucs(
    positive: Bools,
    scores: Floats,
    groups: Sequence[object] | None = None,
    *,
    resamples: int = 2_000,
    seed: int = 0,
    threads: int = 2,
) -> Floats:
    """AUCs of every model on the same resamples of the groups (patients), so that they can be paired.

    Args:
        positive: which images are of the class, (n,).
        scores: (m, n), finite.
        groups: each image's patient, (n,); None: every image stands for itself.
        resamples: drawn with replacement; one without both classes is drawn again.
        seed: of the draws.
        threads: how many models are worked on at a time.

    Returns:
        (m, resamples).
    """
    member = np.arange(len(positive))
    if groups is not None:
        member = np.unique(np.asarray(groups), return_inverse=True)[1]
    counts = _drawn(member, positive, resamples, seed)
    with ThreadPoolExecutor(threads) as pool:
        rows = list(pool.map(lambda column: weighted_auc(positive, column, counts), scores))
    return np.array(rows)


def mean_auc_gain(
    flags: Flags, first: Floats, second: Floats, groups: Sequence[object] | None = None
) -> tuple[float, float, Interval]:
    """AUCs of two models, mean over classes, and the 95 % interval of their difference.

    From half the widths of the intervals of the two AUCs, which are honest near 1, and their correlation, as
    the error of a difference is from two errors. In simulations that covers better than the distances to
    each end (`benchmarks/other_intervals.py`). A class without an image, or without another one, does not
    count.

    Args:
        flags: which images are of each class, (n, C).
        first: probabilities, (n, C).
        second: of the other model.
        groups: each image's patient, (n,); None: every image stands for itself.
    """
    member = None if groups is None else np.asarray(groups)
    both = [delong(flags, values, member) for values in (first, second)]
    there = np.isfinite(both[0].auc)
    means = [float(found.auc[there].mean()) for found in both]
    one, other = ((ends.mean_high - ends.mean_low) / 2 for ends in (found.ends for found in both))
    reach = math.sqrt(one**2 + other**2 - 2 * _correlation(*both) * one * other)
    gain = means[0] - means[1]
    return means[0], means[1], (max(gain - reach, -1.0), min(gain + reach, 1.0))


def _correlation(first: Delong, second: Delong) -> float:
    """Of two models' mean AUCs, drawn towards 0 the more the fewer patients decide.

    0 where the variance of one is 0 or unknown: the interval is then as wide as for other images.
    """
    known = first.estimates.usable & second.estimates.usable
    if not known.any():
        return 0.0
    means = np.array([found.influence[known].mean(axis=0) for found in (first, second)])
    squares = np.square(means)
    variances = squares.sum(axis=1)
    decide = (np.square(variances) / np.square(squares).sum(axis=1)).min()
    weight = PRIOR_WEIGHT * max(float(first.repeated[known].mean()), LEAST_REPEATED)
    return float(means[0] @ means[1] / np.sqrt(variances.prod()) * decide / (decide + weight))


def _drawn(member: Members, positive: Bools, resamples: int, seed: int) -> Counts:
    """How often each image is in each resample of the groups, (n, resamples); both classes are in all."""
    random = np.random.default_rng(seed)
    n_groups = int(member.max()) + 1
    counts = np.empty((resamples, len(member)), dtype=np.float32)
    for row in counts:
        while True:
            row[:] = np.bincount(random.integers(0, n_groups, n_groups), minlength=n_groups)[member]
            if row[positive].any() and row[~positive].any():
                break
    return np.ascontiguousarray(counts.T)
