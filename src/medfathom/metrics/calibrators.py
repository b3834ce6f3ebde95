"""Calibrated probabilities: temperature, isotonic regression, Venn-Abers; and what each gains.

Isotonic regression and Venn-Abers map the log-odds of each class by itself. Those of several classes are then
divided by their sum (one against the rest: Zadrozny and Elkan, KDD 2002).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medfathom.metrics.calibration import calibrated, fit_temperature
from medfathom.metrics.classification import TaskKind, brier_loss, calibration_error, log_loss, positives
from medfathom.metrics.influences import Floats
from medfathom.metrics.rules import CALIBRATIONS, CalibrationKind
from medfathom.metrics.unknown import is_absent, is_present
from medfathom.metrics.venn_abers import venn_abers_steps

FOLDS = 5
"""Of the cross-validation that compares them."""

DIGITS = 6
"""Decimals of a kept probability: equal neighbours then need no place of their own."""


@dataclass(frozen=True)
class Curve:
    """From the log-odds of a class to its probability.

    Attributes:
        x: log-odds, rising.
        y: isotonic: the probability at each, between them on a line. Venn-Abers: 2n + 1 steps, below the
            first x, at it, between it and the next, …. Both empty: the class, or all else, was absent; the
            temperature's probability stands.
    """

    x: list[float]
    y: list[float]


@dataclass(frozen=True)
class Fit:
    """What turns logits into probabilities. `temperature` is always fitted: `curves` go beyond it.

    Attributes:
        kind: how.
        temperature: logits are divided by it.
        curves: of each probability column; none for the temperature.
    """

    kind: CalibrationKind
    temperature: float
    curves: list[Curve]

    def __call__(self, task: TaskKind, logits: NDArray[np.floating]) -> Floats:
        """Probabilities (n, 1) for binary, else (n, K)."""
        return apply_curves(self.kind, self.curves, task, logits, self.temperature)


@dataclass(frozen=True)
class CalibrationScores:
    """How good the probabilities are that a way of calibration gives, out of fold on validation.

    Attributes:
        kind: `none`, or a way of calibration.
        log_loss: at least 0.
        brier_loss: in [0, 1], of several classes in [0, 2].
        calibration_error: expected calibration error, in [0, 1].
    """

    kind: str
    log_loss: float
    brier_loss: float
    calibration_error: float


def log_odds(task: TaskKind, logits: NDArray[np.floating]) -> Floats:
    """Log-odds of each probability column, (n, C): where probabilities would round to 1, still apart."""
    z = logits.astype(np.float64)
    if task == "multilabel":
        return z
    if task == "binary":
        return z[:, 1:] - z[:, :1]
    columns = range(z.shape[1])
    others = [np.logaddexp.reduce(np.delete(z, k, axis=1), axis=1) for k in columns]
    odds: Floats = z - np.stack(others, axis=1)
    return odds


def fit_calibration(
    kind: CalibrationKind, task: TaskKind, labels: NDArray[np.integer], logits: NDArray[np.floating]
) -> Fit:
    """Fit on the images (or cases) of the validation split.

    Args:
        kind: how.
        task: what labels mean.
        labels: (n,) or (n, K).
        logits: (n, outputs).
    """
    temperature = fit_temperature(task, labels, logits)
    if kind == "temperature":
        return Fit(kind, temperature, [])
    odds = log_odds(task, logits)
    flags = positives(task, labels, odds.shape[1])
    fit = _isotonic if kind == "isotonic" else _venn_abers
    curves = []
    for column in range(odds.shape[1]):
        present = is_present(flags[:, column])
        known = present | is_absent(flags[:, column])
        both = present.any() and not present[known].all()
        curves.append(fit(odds[known, column], present[known]) if both else Curve([], []))
    return Fit(kind, temperature, curves)


def _isotonic(odds: Floats, present: NDArray[np.bool_]) -> Curve:
    """Isotonic regression. n images never show a probability of 0 or 1: it ends at 1 / (n + 2) from them."""
    from sklearn.isotonic import IsotonicRegression  # noqa: PLC0415  heavy

    least = 1 / (len(odds) + 2)
    fitted = IsotonicRegression(y_min=least, y_max=1 - least, out_of_bounds="clip")
    fitted.fit(odds, present.astype(np.float64))
    return Curve(fitted.X_thresholds_.tolist(), np.round(fitted.y_thresholds_, 2 * DIGITS).tolist())


def _venn_abers(odds: Floats, present: NDArray[np.bool_]) -> Curve:
    x, steps = venn_abers_steps(odds, present)
    y = np.round(steps, DIGITS)
    # A score between equal steps is of no use.
    kept = (y[1::2] != y[:-1:2]) | (y[1::2] != y[2::2])
    return Curve(x[kept].tolist(), [float(y[0]), *y[1:].reshape(-1, 2)[kept].reshape(-1).tolist()])


def apply_curves(
    kind: CalibrationKind,
    curves: Sequence[Curve],
    task: TaskKind,
    logits: NDArray[np.floating],
    temperature: float,
) -> Floats:
    """Probabilities of logits (n, outputs), as `Fit` gives them."""
    values = calibrated(task, logits, temperature)
    if kind == "temperature":
        return values
    odds, mapped = log_odds(task, logits), values.copy()
    for column, curve in enumerate(curves):
        if curve.y:
            mapped[:, column] = _mapped(kind, curve, odds[:, column])
    if task != "multiclass":
        return mapped
    total = mapped.sum(axis=1, keepdims=True)
    shares: Floats = np.where(total > 0, mapped / np.where(total > 0, total, 1.0), values)
    return shares


def _mapped(kind: CalibrationKind, curve: Curve, odds: Floats) -> Floats:
    if kind == "isotonic":
        interpolated: Floats = np.interp(odds, curve.x, curve.y)
        return interpolated
    place = np.searchsorted(curve.x, odds, "left") + np.searchsorted(curve.x, odds, "right")
    steps: Floats = np.asarray(curve.y, dtype=np.float64)[place]
    return steps


def compare_calibrations(
    task: TaskKind,
    labels: NDArray[np.integer],
    logits: NDArray[np.floating],
    groups: ArrayLike | None = None,
    *,
    seed: int = 0,
) -> list[CalibrationScores]:
    """What each way of calibration is worth on validation, by cross-validation.

    Args:
        task: what labels mean.
        labels: (n,) or (n, K).
        logits: (n, outputs).
        groups: each one's patient, (n,): a patient is in one fold. None: each stands for itself.
        seed: of the folds.

    Returns:
        `none` first; empty where there are too few for folds that have all classes.
    """
    names = np.arange(len(labels)) if groups is None else np.asarray(groups)
    member = np.unique(names, return_inverse=True)[1]
    n_groups = int(member.max()) + 1
    if n_groups < 2 * FOLDS:
        return []
    fold = (np.random.default_rng(seed).permutation(n_groups) % FOLDS)[member]
    n_columns = log_odds(task, logits[:1]).shape[1]
    for held_out in range(FOLDS):
        flags = positives(task, labels[fold != held_out], n_columns)
        if not (is_present(flags).any(axis=0) & is_absent(flags).any(axis=0)).all():
            return []
    scores = [_scores("none", task, labels, calibrated(task, logits, 1.0))]
    for kind in CALIBRATIONS:
        values = np.empty((len(labels), n_columns))
        for held_out in range(FOLDS):
            own = fold == held_out
            values[own] = fit_calibration(kind, task, labels[~own], logits[~own])(task, logits[own])
        scores.append(_scores(kind, task, labels, values))
    return scores


def _scores(kind: str, task: TaskKind, labels: NDArray[np.integer], values: Floats) -> CalibrationScores:
    flags = positives(task, labels, values.shape[1])
    return CalibrationScores(
        kind,
        log_loss(task, labels, values),
        brier_loss(task, flags, values),
        calibration_error(task, flags, values),
    )
