"""95 % intervals of log loss and Brier loss: means over images whose losses are very unequal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medfathom.metrics.classification import TINY, TaskKind, positives
from medfathom.metrics.influences import (
    PRIOR_WEIGHT,
    Estimates,
    Floats,
    Members,
    equivalent,
    scaled,
    sums_within,
)
from medfathom.metrics.intervals import Interval
from medfathom.metrics.unknown import is_absent, is_present


@dataclass(frozen=True)
class _Outcomes:
    """What is judged: an image, or with several labels each known label of one; M of them.

    Attributes:
        chances: probability of each of the possible outcomes, (M, K).
        actual: which came true, (M,).
        image, label: of each, (M,).
    """

    chances: Floats
    actual: NDArray[np.intp]
    image: NDArray[np.intp]
    label: NDArray[np.intp]

    @property
    def shares(self) -> dict[str, Floats]:
        """How much each counts, (M,): alike in the log loss; in the Brier loss labels count alike."""
        size, known = len(self.actual), np.bincount(self.label)
        by_label = 1 / known[self.label] / (known > 0).sum()
        return {"log_loss": np.full(size, 1 / size), "brier_loss": by_label}


def loss_intervals(
    task: TaskKind, labels: NDArray[np.integer], probabilities: Floats, member: Members
) -> dict[str, Interval]:
    """The intervals of `log_loss` and `brier_loss`, by the rule of `influences`, on the logarithm's scale.

    Where a model is good, a few mistakes make up most of a loss, and a sample that lacks them promises too
    much. The general variance is therefore the one that losses would have if the probabilities were right: it
    counts mistakes that did not happen. It counts for independent images too. A model whose probabilities are
    too extreme hides its mistakes from it: the interval is then that of the images alone.

    There is none for a loss of 0, for losses that are all the same, and for one patient.

    Args:
        task: what labels mean.
        labels: as `classification.evaluate` takes them.
        probabilities: (n, C).
        member: each image's patient, numbered from 0, (n,).
    """
    judged = _outcomes(task, labels, probabilities)
    patient, shares = member[judged.image], judged.shares
    logarithms = -np.log(np.maximum(judged.chances, TINY))
    squares = _squares(task, judged.chances)
    highest = (-float(np.log(TINY)), 2.0 if task == "multiclass" else 1.0)
    found = {
        "log_loss": _ends(judged, logarithms, shares["log_loss"], patient, highest[0]),
        "brier_loss": _ends(judged, squares, shares["brier_loss"], patient, highest[1]),
    }
    return {name: ends for name, ends in found.items() if ends is not None}


def _outcomes(task: TaskKind, labels: NDArray[np.integer], probabilities: Floats) -> _Outcomes:
    if task == "multiclass":
        each = np.arange(len(labels))
        return _Outcomes(probabilities, labels.astype(np.intp), each, np.zeros_like(each))
    flags = positives(task, labels, probabilities.shape[1])
    image, column = np.nonzero(is_present(flags) | is_absent(flags))
    values = probabilities[image, column]
    actual = is_present(flags[image, column]).astype(np.intp)
    return _Outcomes(np.stack([1 - values, values], axis=1), actual, image, column)


def _squares(task: TaskKind, chances: Floats) -> Floats:
    """The Brier loss of each possible outcome, (M, K)."""
    squares: Floats = np.square(chances).sum(axis=1, keepdims=True) - 2 * chances + 1
    return squares if task == "multiclass" else squares / 2  # of two outcomes only the second counts


def _ends(
    judged: _Outcomes, losses: Floats, share: Floats, patient: Members, highest: float
) -> Interval | None:
    """The interval of the mean loss, from the loss of each possible outcome, (M, K)."""
    own = losses[np.arange(len(losses)), judged.actual]
    mean = float((share * own).sum())
    counts = sums_within(np.ones((1, len(own))), patient)
    happened = (np.square(share) * np.square(own - mean)).sum()
    expected = (np.square(share)[:, None] * judged.chances * np.square(losses - mean)).sum()
    groups = (counts > 0).sum(axis=1).astype(np.float64)
    found = Estimates(
        np.array([mean]),
        scaled(sums_within((share * (own - mean))[None], patient), sums_within(share[None], patient)),
        judged=groups,
        most=groups - 1,
        general=max(happened, expected) * len(own) / equivalent(counts),
        weight=np.full(1, PRIOR_WEIGHT),
    )
    if mean <= 0 or not found.usable[0]:
        return None
    factor = float(np.exp(min(found.reach[0] / mean, 700.0)))  # beyond, it overflows
    return mean / factor, min(mean * factor, highest)
