"""Inductive Venn-Abers probabilities (Vovk, Petej and Fedorova, NeurIPS 2015).

For a new score, isotonic regression is fitted to the calibration images and that score, once as a negative
(p0) and once as a positive (p1): p0 and p1 enclose a probability that is right on average whatever the scores
mean. One number of the two is p1 / (1 - p0 + p1), which has the least regret in log loss.

Both are slopes of the greatest convex minorant below the cumulative sum diagram, and are found for all
places of a new score in one pass (their algorithms 1 to 4).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medfathom.metrics.influences import Floats

Point = tuple[float, float]


def venn_abers_steps(scores: Floats, present: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """The probability as a function of the score: constant between calibration scores.

    Args:
        scores: of the calibration images, (n,).
        present: whether each is positive, (n,).

    Returns:
        The m distinct scores, rising; and 2m + 1 probabilities in [0, 1]: below the first score, at it,
        between it and the next, and so on.
    """
    distinct, place = np.unique(scores, return_inverse=True)
    n: Floats = np.cumsum(np.bincount(place)).astype(np.float64)
    sums: Floats = np.cumsum(np.bincount(place, weights=present.astype(np.float64))).astype(np.float64)
    p0, p1 = lower_and_upper(n, sums)
    steps = np.arange(2 * len(distinct) + 1)
    low, high = p0[(steps + 1) // 2], p1[steps // 2]
    return distinct, high / (1 - low + high)


def lower_and_upper(n: Floats, sums: Floats) -> tuple[Floats, Floats]:
    """p0 and p1 of a new score by its place, (m + 1,) each.

    Args:
        n: images up to each distinct score, (m,).
        sums: positives among them, (m,).

    Returns:
        p0 of a score at or above k distinct ones (and below the next), p1 of one above k distinct ones (and
        at or below the next), k from 0 to m.
    """
    points: list[Point] = [(0.0, 0.0), *zip(n.tolist(), sums.tolist(), strict=True)]
    upper = _upper(points)
    # A negative one is a positive one in the mirror.
    total, positive = points[-1]
    mirrored = [(total - a, (total - a) - (positive - b)) for a, b in reversed(points)]
    lower = 1 - _upper(mirrored)[::-1]
    return lower, upper


def _upper(points: list[Point]) -> Floats:
    """p1 of a new score by its place. With it, all points that it passes lie (1, 1) further left and down.

    Kept is the part of the convex minorant from the new score on: the first edge of it gives p1.

    Args:
        points: of the cumulative sum diagram, from (0, 0) on.
    """
    hull = [points[-1]]  # from right to left
    for point in [*points[-2::-1], (-1.0, -1.0)]:
        _push(hull, point)
    found = []
    for x, y in points[1:]:
        found.append(_slope(hull[-1], hull[-2]))
        passed = (x - 1, y - 1)
        if _turn(hull[-1], hull[-2], passed) < 0:  # below the first edge
            hull.pop()
            _push(hull, passed)
    return np.array([*found, 1.0])


def _push(hull: list[Point], point: Point) -> None:
    """Put a point at the left end of a convex minorant, and take out what then lies above it."""
    while len(hull) > 1 and _turn(point, hull[-1], hull[-2]) <= 0:
        hull.pop()
    hull.append(point)


def _turn(first: Point, second: Point, third: Point) -> float:
    """Above 0: the third point lies above the line from the first through the second."""
    return (second[0] - first[0]) * (third[1] - first[1]) - (second[1] - first[1]) * (third[0] - first[0])


def _slope(first: Point, second: Point) -> float:
    return (second[1] - first[1]) / (second[0] - first[0])
