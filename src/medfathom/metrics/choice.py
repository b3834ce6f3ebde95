"""Which of several models is the best, from AUC and log loss on the same validation images: one rule for all.

Validation AUC saturates: on an easy data set many models reach the same AUC, and differ much on test images.
`benchmarks/results/choice.md` measures the rules on 6,368 published runs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medfathom.metrics.rules import MARGIN, Rule


def best_first(auc: ArrayLike, log_loss: ArrayLike, by: Rule, *, margin: float = MARGIN) -> NDArray[np.intp]:
    """Positions of models, the best first; of models that are equal in both, the earlier first.

    Under `auc_then_log_loss` those outside the margin follow by AUC. Where any log loss is unknown, AUC alone
    decides, whatever the rule.

    Args:
        auc: in [0, 1], (n,); under the rule `objective` values of an objective, more is better.
        log_loss: (n,), at least 0; NaN where it is not known.
        by: the rule.
        margin: of `auc_then_log_loss`, AUC.

    >>> best_first([0.99, 0.988, 0.9], [0.5, 0.2, 0.1], "auc_then_log_loss").tolist()
    [1, 0, 2]
    """
    values, losses = np.asarray(auc, dtype=np.float64), np.asarray(log_loss, dtype=np.float64)
    if np.isnan(losses).any():
        losses = np.zeros_like(values)
    far = np.zeros(len(values), dtype=bool)
    if by == "auc_then_log_loss" and len(values):
        far = values < values.max() - margin
    by_loss = ~far & (by not in ("auc", "objective"))
    return np.lexsort((np.where(by_loss, -values, losses), np.where(by_loss, losses, -values), far))
