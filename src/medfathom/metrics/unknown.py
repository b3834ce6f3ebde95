"""Labels that are not known: the one place that says how they are written.

A multilabel image may have a label that nobody decided: an uncertain report, a finding that was not looked
for. It is neither present nor absent: loss, AUC and every count leave this image out for this label.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

UNKNOWN = 255
"""In labels of a multilabel task, uint8 (n, K): 1 is present, 0 is absent."""


def is_present(labels: ArrayLike) -> NDArray[np.bool_]:
    """Where a label is present, of bool or of 0, 1 and `UNKNOWN`."""
    values = _as_array(labels)
    return values if values.dtype == bool else (values != 0) & (values != UNKNOWN)


def is_absent(labels: ArrayLike) -> NDArray[np.bool_]:
    """Where a label is absent. What is neither present nor absent is not known."""
    absent: NDArray[np.bool_] = _as_array(labels) == 0
    return absent


def _as_array(labels: ArrayLike) -> NDArray[Any]:
    return np.asarray(labels)
