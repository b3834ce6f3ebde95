"""What logits are worth on a split: metrics of its units (images or cases), and the AUC per image beside."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from medfathom.data.prepared import PreparedData, Split
from medfathom.metrics.calibration import as_array
from medfathom.metrics.classification import evaluate, positives
from medfathom.metrics.influences import Floats
from medfathom.metrics.intervals import interval_of_mean
from medfathom.metrics.objectives import objective_value
from medfathom.metrics.probabilities import num_outputs, probabilities
from medfathom.trial.record import METRIC_TITLES, SplitMetrics
from medfathom.units import Combine


def judge(
    data: PreparedData,
    split: Split,
    logits: NDArray[np.floating],
    combine: Combine,
    *,
    calibrate: Callable[[NDArray[np.floating]], Floats] | None = None,
    thresholds: Sequence[float | None] | None = None,
    objective: str = "auc",
) -> SplitMetrics:
    """Every metric of a split, per case where it has cases.

    Args:
        data: the data set.
        split: of it.
        logits: of the split's images, as the network gives them.
        combine: how those of a case become one.
        calibrate: from logits of the units to probabilities; None: as the network gives them.
        thresholds: as `thresholds_of` gives them; None: chosen here, see `evaluate`.
        objective: what the study looks for.
    """
    units = split.units
    of_units = units.logits(data.task, logits, combine)
    values = probabilities(data.task, of_units) if calibrate is None else calibrate(of_units)
    found = evaluate(
        data.task,
        units.labels,
        values,
        data.class_names,
        thresholds=None if thresholds is None else as_array(thresholds),
        groups=units.groups,
    )
    flags = positives(data.task, units.labels, values.shape[1])
    further = {"objective_value": objective_value(objective, found, flags, values)}
    if units.cases is None:
        return SplitMetrics.measured(found, data.positive, None, **further)
    further |= _per_image(data, split, logits)
    return SplitMetrics.measured(found, data.positive, len(units), **further)


def _per_image(data: PreparedData, split: Split, logits: NDArray[np.floating]) -> dict[str, float]:
    """The AUC of images, each with its case's label; its interval counts patients, else cases."""
    own = logits[:, : num_outputs(data.task, len(data.class_names))]  # without an attention score
    values = probabilities(data.task, own)
    found = evaluate(data.task, split.labels, values, data.class_names, groups=split.clusters).overall
    return {f"image_{name}": found[name] for name in ("auc", "auc_ci_low", "auc_ci_high") if name in found}


def over_datasets(found: Mapping[str, SplitMetrics]) -> SplitMetrics:
    """The means over data sets, each of which counts the same; of one data set its own metrics.

    The data sets are independent of one another: half-widths of intervals add as squares. What belongs to one
    data set (its threshold, its classes) is told of it alone.

    Args:
        found: data set -> its metrics.
    """
    each = list(found.values())
    if len(each) == 1:
        return each[0]
    names = [name for name, _ in METRIC_TITLES if name != "image_auc"]
    values = {name: [getattr(metrics, name) for metrics in each] for name in names}
    known = {name: own for name, own in values.items() if None not in own}
    means = {name: float(np.mean(own)) for name, own in known.items()}
    for name, own in known.items():
        ends = [pair for m in each if (pair := _ends(m, name)) is not None]
        if len(ends) == len(each):
            low, high = interval_of_mean(own, ends)
            means |= {f"{name}_ci_low": low, f"{name}_ci_high": high}
    return SplitMetrics(
        **means,
        auc_interval=f"mean of {len(each)} data sets: half-widths added as squares",
        undefined=[f"{name}: {line}" for name, m in found.items() for line in m.undefined or []] or None,
    )


def _ends(metrics: SplitMetrics, name: str) -> tuple[float, float] | None:
    """Of a metric's interval; None: it has none."""
    low, high = (getattr(metrics, f"{name}_ci_{end}", None) for end in ("low", "high"))
    return None if low is None or high is None else (low, high)
