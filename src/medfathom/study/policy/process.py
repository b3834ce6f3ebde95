"""A small Gaussian process over hyperparameters of any kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_solve, cholesky, solve_triangular
from scipy.linalg.lapack import dpotrf, dtrtri, dtrtrs
from scipy.special import ndtr

Array = NDArray[np.float64]

NUMERIC = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Length scales tried; numbers are scaled to [0, 1]."""
CATEGORICAL = (0.1, 0.3, 0.5, 0.7, 0.9, 0.97)
"""Correlations tried between two values of a category."""
NOISE = (0.01, 0.03, 0.1, 0.3)
"""Noise variances tried; values are scaled to variance 1."""


@dataclass(frozen=True)
class Scales:
    """How far a function reaches along each column (`NUMERIC`, `CATEGORICAL`), and its noise variance."""

    columns: Array
    noise: float


@dataclass(frozen=True)
class Process:
    """What is known of a function from noisy values of it.

    The kernel is a product over the columns: a squared exponential for a number, one correlation between any
    two values of a category. Scales and noise are those of the greatest marginal likelihood on a small grid,
    found a column at a time.
    """

    points: Array
    """(n, columns): numbers in [0, 1], or a category's index."""
    values: Array
    scales: Scales
    numeric: Sequence[bool]
    _factor: Array
    _weights: Array

    @classmethod
    def fitted(cls, points: Array, values: Array, numeric: Sequence[bool]) -> Process:
        """A process for points (n, columns) and their values (n,), of mean 0 and variance about 1."""
        differences = [_difference(points, points, i) for i in range(points.shape[1])]
        scales = np.array([1.0 if number else 0.5 for number in numeric])
        noise = 0.1
        parts = [_correlation(d, s, n) for d, s, n in zip(differences, scales, numeric, strict=True)]
        best = _evidence(np.prod(parts, axis=0), noise, values)
        for _ in range(2):
            before = *scales, noise
            for i, number in enumerate(numeric):
                if not differences[i].any():  # a column of one value tells nothing
                    continue
                others = np.prod([p for j, p in enumerate(parts) if j != i], axis=0)
                for scale in NUMERIC if number else CATEGORICAL:
                    if scale == scales[i]:
                        continue
                    part = _correlation(differences[i], scale, number)
                    found = _evidence(others * part, noise, values)
                    if found > best:
                        best, scales[i], parts[i] = found, scale, part
            whole = np.prod(parts, axis=0)
            evidence = {n: best if n == noise else _evidence(whole, n, values) for n in NOISE}
            noise = max(evidence, key=evidence.__getitem__)
            best = evidence[noise]
            if before == (*scales, noise):
                break
        return cls.of(points, values, numeric, Scales(scales, noise))

    @classmethod
    def of(cls, points: Array, values: Array, numeric: Sequence[bool], scales: Scales) -> Process:
        """A process with scales that are known: a hundredth of the work."""
        kernel = _kernel(points, points, scales.columns, numeric) + scales.noise * np.eye(len(points))
        factor = cholesky(kernel, lower=True)
        return cls(points, values, scales, numeric, factor, cho_solve((factor, True), values))

    def given(self, points: Array, values: Array) -> Process:
        """The process that knows further values, its scales and noise as they are."""
        cross = solve_triangular(self._factor, self._kernel(self.points, points), lower=True)
        rest = self._kernel(points, points) + self.scales.noise * np.eye(len(points)) - cross.T @ cross
        empty = np.zeros_like(cross)
        factor = np.block([[self._factor, empty], [cross.T, cholesky(rest, lower=True)]])
        points, values = np.vstack([self.points, points]), np.concatenate([self.values, values])
        weights = cho_solve((factor, True), values)
        return Process(points, values, self.scales, self.numeric, factor, weights)

    def means(self, points: Array) -> Array:
        """Means of the function at points (m, columns)."""
        found: Array = self._kernel(points, self.points) @ self._weights
        return found

    def predict(self, points: Array) -> tuple[Array, Array]:
        """Means and standard deviations of the function at points (m, columns), without noise."""
        kernel = self._kernel(self.points, points)
        # Of hundreds of points a product takes half as long as `solve_triangular`.
        rest = dtrtri(self._factor, lower=1)[0] @ kernel
        return self._weights @ kernel, np.sqrt(np.maximum(1 - (rest**2).sum(axis=0), 1e-9))

    def _kernel(self, a: Array, b: Array) -> Array:
        return _kernel(a, b, self.scales.columns, self.numeric)


def expected_improvement(mean: Array, sd: Array, best: float) -> Array:
    """How far a normal variable is expected to come above `best`, counting 0 where it stays below."""
    z = (mean - best) / sd
    gain: Array = sd * (z * ndtr(z) + np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi))
    return gain


def _kernel(a: Array, b: Array, scales: Array, numeric: Sequence[bool]) -> Array:
    """The product of all columns' correlations: of distances, so that one matrix product gives them all."""
    last = np.maximum(a.max(axis=0), b.max(axis=0))
    n_values = [0 if number else int(i) + 1 for i, number in zip(last, numeric, strict=True)]
    a, b = (_placed(points, scales, n_values) for points in (a, b))
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)
    correlations: Array = np.exp(np.minimum(a @ b.T - squares / 2, 0.0))
    return correlations


def _placed(points: Array, scales: Array, n_values: Sequence[int]) -> Array:
    """Points whose correlation is exp(-d^2 / 2) of their distance d; a category has a column for each value.

    Args:
        points: see `Process`.
        scales: of its columns.
        n_values: of each column's category; 0: it is a number.
    """
    columns = [
        np.equal.outer(points[:, i], np.arange(n)) * np.sqrt(-np.log(scales[i]))
        if n
        else points[:, i, None] / scales[i]
        for i, n in enumerate(n_values)
    ]
    return np.hstack(columns)


def _difference(a: Array, b: Array, column: int) -> Array:
    return np.abs(a[:, None, column] - b[None, :, column])


def _correlation(difference: Array, scale: float, numeric: bool) -> Array:
    return np.exp(-((difference / scale) ** 2) / 2) if numeric else np.where(difference > 0, scale, 1.0)


def _evidence(correlation: Array, noise: float, values: Array) -> float:
    """The logarithm of the marginal likelihood, but for a constant."""
    kernel = correlation.copy()
    kernel.flat[:: len(kernel) + 1] += noise
    # Of few points `cholesky` and `solve_triangular` take longer to look at what they are given.
    factor, failed = dpotrf(kernel, lower=1, clean=0)
    if failed:
        raise LinAlgError("the kernel is not positive definite")
    half, _ = dtrtrs(factor, values, lower=1)
    return float(-(half @ half) / 2 - np.log(np.diag(factor)).sum())
