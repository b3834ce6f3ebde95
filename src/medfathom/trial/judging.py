"""What logits are worth on a split: metrics of its units (images or cases), and the AUC per image beside."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medfathom.data.prepared import PreparedData, Split
from medfathom.metrics.calibration import as_array, calibrated
from medfathom.metrics.classification import evaluate
from medfathom.metrics.probabilities import num_outputs, probabilities
from medfathom.trial.record import SplitMetrics
from medfathom.units import Combine


def judge(
    data: PreparedData,
    split: Split,
    logits: NDArray[np.floating],
    combine: Combine,
    *,
    temperature: float = 1.0,
    thresholds: Sequence[float | None] | None = None,
) -> SplitMetrics:
    """Every metric of a split, per case where it has cases.

    Args:
        data: the data set.
        split: of it.
        logits: of the split's images, as the network gives them.
        combine: how those of a case become one.
        temperature: the logits of the units are divided by it.
        thresholds: as `thresholds_of` gives them; None: chosen here, see `evaluate`.
    """
    units = split.units
    found = evaluate(
        data.task,
        units.labels,
        calibrated(data.task, units.logits(data.task, logits, combine), temperature),
        data.class_names,
        thresholds=None if thresholds is None else as_array(thresholds),
        groups=units.groups,
    )
    if units.cases is None:
        return SplitMetrics.measured(found, data.positive, None)
    return SplitMetrics.measured(found, data.positive, len(units), **_per_image(data, split, logits))


def _per_image(data: PreparedData, split: Split, logits: NDArray[np.floating]) -> dict[str, float]:
    """The AUC of images, each with its case's label; its interval counts patients, else cases."""
    own = logits[:, : num_outputs(data.task, len(data.class_names))]  # without an attention score
    values = probabilities(data.task, own)
    found = evaluate(data.task, split.labels, values, data.class_names, groups=split.clusters).overall
    return {f"image_{name}": found[name] for name in ("auc", "auc_ci_low", "auc_ci_high") if name in found}
