"""Intervals by resampling patients, of metrics that have no simpler one; and intervals of differences."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medfathom.metrics.auc import BLOCK, Counts, Flags, resampled_counts
from medfathom.metrics.classification import TINY, TaskKind, positives
from medfathom.metrics.influences import Floats
from medfathom.metrics.unknown import is_absent, is_present

DRAWS = 2_000
"""Resamples: the ends of a 95 % interval then vary by about 2 % of its width."""

Interval = tuple[float, float]


def bootstrap_intervals(
    task: TaskKind,
    labels: NDArray[np.integer],
    probabilities: Floats,
    groups: ArrayLike | None = None,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> dict[str, Interval]:
    """95 % intervals of average precision (mean over classes), log loss and Brier loss, by percentiles.

    Whole groups are drawn with replacement. A resample in which a class has no image, or nothing else, is
    left out of that class's percentiles.

    Args:
        task: what labels mean.
        labels: as `classification.evaluate` takes them.
        probabilities: (n, C).
        groups: each image's patient, (n,); None: each image stands for itself.
        draws: how many resamples.
        seed: of the draws.
    """
    flags = positives(task, labels, probabilities.shape[1])
    names = np.arange(len(labels)) if groups is None else np.asarray(groups)
    member = np.unique(names, return_inverse=True)[1]
    counts = resampled_counts(member, draws, np.random.default_rng(seed))
    samples = {
        "average_precision": _mean_average_precision(flags, probabilities, counts),
        "log_loss": _weighted_mean(*_log_losses(task, labels, flags, probabilities), counts),
        "brier_loss": _weighted_mean(*_squares(task, flags, probabilities), counts),
    }
    return {name: interval for name, values in samples.items() if (interval := _percentiles(values))}


def _percentiles(values: Floats) -> Interval | None:
    known = values[np.isfinite(values)]
    if not len(known):
        return None
    low, high = np.percentile(known, [2.5, 97.5]).tolist()
    return low, high


def _log_losses(
    task: TaskKind, labels: NDArray[np.integer], flags: Flags, values: Floats
) -> tuple[Floats, Floats]:
    """Each image's part of the log loss, and of the number it is divided by, (n,) each."""
    if task == "multiclass":
        chosen = values[np.arange(len(labels)), labels]
        return -np.log(np.maximum(chosen, TINY)), np.ones(len(labels))
    positive, known = is_present(flags), is_present(flags) | is_absent(flags)
    losses = -np.log(np.maximum(np.where(positive, values, 1 - values), TINY)) * known
    return losses.sum(axis=1), known.sum(axis=1).astype(np.float64)


def _squares(task: TaskKind, flags: Flags, values: Floats) -> tuple[Floats, Floats]:
    """The same of the Brier loss: with several labels, the mean over all that are known."""
    known = is_present(flags) | is_absent(flags)
    squares = (np.square(values - is_present(flags)) * known).sum(axis=1)
    return squares, np.ones(len(values)) if task == "multiclass" else known.sum(axis=1).astype(np.float64)


def _weighted_mean(parts: Floats, of: Floats, counts: Counts) -> Floats:
    with np.errstate(invalid="ignore"):
        mean: Floats = (parts @ counts) / (of @ counts)
    return mean


def _mean_average_precision(flags: Flags, scores: Floats, counts: Counts) -> Floats:
    columns = np.array(
        [_average_precision(flags[:, c], scores[:, c], counts) for c in range(scores.shape[1])]
    )
    defined = np.isfinite(columns).any(axis=1)
    # A mean over other classes than the whole set's would be of another quantity.
    return columns[defined].mean(axis=0) if defined.any() else np.full(counts.shape[1], np.nan)


def _average_precision(flags: Flags, scores: Floats, counts: Counts) -> Floats:
    """Average precision (B,) of one column where image i counts `counts[i, b]` times; NaN: no positive."""
    known = np.flatnonzero(is_present(flags) | is_absent(flags))
    order = known[np.argsort(-scores[known], kind="stable")]
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    positive = is_present(flags[order]).astype(np.float32)[:, None]
    found = np.empty(counts.shape[1])
    for start in range(0, counts.shape[1], BLOCK):
        drawn = counts[order, start : start + BLOCK]
        true = np.cumsum(drawn * positive, axis=0)[last]
        called = np.maximum(np.cumsum(drawn, axis=0)[last], 1)
        gained = np.diff(true, axis=0, prepend=0)
        with np.errstate(invalid="ignore"):
            found[start : start + BLOCK] = (gained * true / called).sum(axis=0, dtype=np.float64) / true[-1]
    return found


def difference_interval(
    first: float, first_ci: Interval, second: float, second_ci: Interval
) -> tuple[float, float, float]:
    """The first less the second, of independent samples, with the ends of its 95 % interval.

    From the two intervals alone, which need not be symmetric: squared distances to their ends add up (Zou and
    Donner, Statistics in Medicine 2008; Newcombe, Statistics in Medicine 1998, method 10).
    """
    value = first - second
    low = value - math.hypot(first - first_ci[0], second_ci[1] - second)
    high = value + math.hypot(first_ci[1] - first, second - second_ci[0])
    return value, low, high
