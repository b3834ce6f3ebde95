"""What a network's outputs mean: how many there are, and the probabilities they stand for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medfathom.metrics.classification import TaskKind


def num_outputs(task: TaskKind, n_classes: int) -> int:
    """One logit for each class; a binary task has two, so that every task but multilabel is one softmax."""
    return 2 if task == "binary" else n_classes


def probabilities(task: TaskKind, logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Probabilities from logits (n, num_outputs): (n, 1) of the second class for binary, else (n, K).

    In double precision: confident networks would otherwise tie at 1.
    """
    z = logits.astype(np.float64)
    if task == "multilabel":
        return _sigmoid(z)
    if task == "binary":
        return _sigmoid(z[:, 1:] - z[:, :1])
    e = np.exp(z - z.max(axis=1, keepdims=True))
    softmax: NDArray[np.float64] = e / e.sum(axis=1, keepdims=True)
    return softmax


def _sigmoid(z: NDArray[np.float64]) -> NDArray[np.float64]:
    # Both branches have an exponent <= 0: no overflow.
    e = np.exp(-np.abs(z))
    values: NDArray[np.float64] = np.where(z >= 0, 1 / (1 + e), e / (1 + e))
    return values
