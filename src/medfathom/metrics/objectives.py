"""What a search looks for beside the AUC, as one number of a split."""

from __future__ import annotations

import numpy as np

from medfathom.metrics.auc import Flags
from medfathom.metrics.classification import Evaluation
from medfathom.metrics.influences import Floats
from medfathom.metrics.operating import thresholds_by
from medfathom.metrics.rules import is_auc, wanted_specificity
from medfathom.metrics.unknown import is_present


def objective_value(
    objective: str, found: Evaluation, positive: Flags, probabilities: Floats
) -> float | None:
    """The value of an objective; None: it is the AUC, which is told by itself, or it is undefined here.

    Args:
        objective: see `rules.OBJECTIVES`.
        found: the metrics of the split.
        positive: which images or cases are of each class, (n, C).
        probabilities: (n, C).
    """
    if is_auc(objective):
        return None
    specificity = wanted_specificity(objective)
    if specificity is not None:
        return sensitivity_at(specificity, positive, probabilities)
    return found.overall.get({"auprc": "average_precision"}.get(objective, objective))


def sensitivity_at(specificity: float, positive: Flags, probabilities: Floats) -> float | None:
    """The greatest sensitivity on the ROC curve whose specificity is at least so much; mean over classes.

    The threshold is that of these very images: on other images it has another specificity. Classes that
    are absent, or that all images are of, are left out; None: no class is left.
    """
    thresholds = thresholds_by({"specificity": specificity}, positive, probabilities)
    called, present = probabilities >= thresholds, is_present(positive)
    known = np.isfinite(thresholds)
    if not known.any():
        return None
    shares = (called & present)[:, known].sum(axis=0) / present[:, known].sum(axis=0)
    return float(shares.mean())
