"""What is fitted on the validation split: the temperature of the probabilities, and the thresholds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medfathom.metrics.classification import TaskKind, log_loss, positives
from medfathom.metrics.operating import thresholds_by
from medfathom.metrics.probabilities import probabilities
from medfathom.metrics.rules import ThresholdRule

LOWEST, HIGHEST = 0.05, 20.0
"""Temperatures looked at. A perfectly separated validation split would ask for 0."""

DEFAULT_THRESHOLD = 0.5
"""Of a class that validation images lack: no threshold could be chosen from them."""


def calibrated(task: TaskKind, logits: NDArray[np.floating], temperature: float) -> NDArray[np.float64]:
    """Probabilities (n, 1) for binary, else (n, K), of logits divided by the temperature."""
    return probabilities(task, logits.astype(np.float64) / temperature)


def fit_temperature(task: TaskKind, labels: NDArray[np.integer], logits: NDArray[np.floating]) -> float:
    """The temperature with the least log loss (Guo et al., ICML 2017, section 4.2).

    Args:
        task: what labels mean.
        labels: of the validation split.
        logits: (n, outputs), of the same images.
    """

    def loss(log_temperature: float) -> float:
        return log_loss(task, labels, calibrated(task, logits, float(np.exp(log_temperature))))

    from scipy.optimize import minimize_scalar  # noqa: PLC0415  heavy

    found = minimize_scalar(loss, bounds=(np.log(LOWEST), np.log(HIGHEST)), method="bounded")
    # Never worse than doing nothing.
    return float(np.exp(found.x)) if found.fun <= loss(0.0) else 1.0


def thresholds_of(
    task: TaskKind,
    labels: NDArray[np.integer],
    values: NDArray[np.float64],
    rule: ThresholdRule = "youden",
) -> list[float | None]:
    """The threshold of each probability column by a rule; None where a class is missing."""
    chosen = thresholds_by(rule, positives(task, labels, values.shape[1]), values)
    return [float(value) if np.isfinite(value) else None for value in chosen]


def decide(values: NDArray[np.float64], thresholds: Sequence[float | None]) -> NDArray[np.bool_]:
    """Which probabilities (n, C) reach their column's threshold; 0.5 where none could be chosen."""
    chosen = np.array([DEFAULT_THRESHOLD if t is None else t for t in thresholds])
    reached: NDArray[np.bool_] = values >= chosen
    return reached


def as_array(thresholds: Sequence[float | None]) -> NDArray[np.float64]:
    """As `evaluate` takes them: NaN where there is none."""
    return np.array([np.nan if t is None else t for t in thresholds], dtype=np.float64)
