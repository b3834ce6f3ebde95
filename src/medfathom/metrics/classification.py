"""What a model is worth on a split: AUC and its companions, each with a 95 % interval where it has one.

Intervals count patients (or slides) where they are known: images of one patient are not independent.

Probabilities come as columns: one for a binary task (of the second class), one for each class otherwise. A
multiclass task is seen one class against the rest. Overall values are means over the classes for which they
are defined.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medfathom.metrics.auc import Flags, delong_interval, roc_auc_score
from medfathom.metrics.influences import Bools, Floats, Members
from medfathom.metrics.shares import share_interval
from medfathom.metrics.unknown import is_absent, is_present

TaskKind = Literal["binary", "multiclass", "multilabel"]
"""What labels mean: one of two classes, one of several classes, any number of several labels."""

CALIBRATION_BINS = 15
"""Equal-width bins of the calibration error (Guo et al., ICML 2017)."""

TINY = 1e-12


@dataclass(frozen=True)
class Evaluation:
    """Metrics of one split. Only finite values are in it; what is undefined is named, with why."""

    overall: dict[str, float]
    per_class: dict[str, dict[str, float]]
    """Class name -> its metrics; empty for a binary task."""
    undefined: list[str]
    thresholds: Floats
    """(C,), NaN where none could be chosen."""
    auc_interval: str
    """How the AUC's interval was had."""


def evaluate(
    task: TaskKind,
    labels: NDArray[np.integer],
    probabilities: Floats,
    class_names: Sequence[str],
    *,
    thresholds: Floats | None = None,
    groups: ArrayLike | None = None,
) -> Evaluation:
    """Every metric of a split.

    Args:
        task: what the labels mean.
        labels: class index (n,), or 0, 1 and `UNKNOWN` (n, K) for multilabel: a label is judged on the
            images where it is known.
        probabilities: (n, 1) for binary, else (n, K); see `medfathom.metrics.probabilities`.
        class_names: K names; two for binary.
        thresholds: (C,) chosen before on validation. None: chosen here (and then sensitivity, specificity and
            precision are slightly optimistic, as the same images choose and judge).
        groups: each image's patient or slide, (n,): intervals then count groups, not images.
    """
    positive = positives(task, labels, probabilities.shape[1])
    names = list(class_names[1:]) if task == "binary" else list(class_names)
    auc = roc_auc_score(positive, probabilities)
    member = None if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    interval = delong_interval(positive, probabilities, member)
    chosen = choose_thresholds(positive, probabilities) if thresholds is None else thresholds
    columns = {
        "auc": auc,
        "auc_ci_low": interval.low,
        "auc_ci_high": interval.high,
        "average_precision": average_precision_score(positive, probabilities),
        "threshold": chosen,
        **_at_thresholds(positive, probabilities, chosen, member),
    }
    overall = {name: _mean_of_defined(values) for name, values in columns.items() if name != "threshold"}
    known = is_present(positive) | is_absent(positive)
    if not known.all():
        columns["n_known"] = known.sum(axis=0).astype(np.float64)
    overall |= {"auc_ci_low": interval.mean_low, "auc_ci_high": interval.mean_high}
    overall |= _accuracy(task, labels, probabilities, positive, chosen, member)
    overall["log_loss"] = log_loss(task, labels, probabilities)
    overall["brier_loss"] = brier_loss(task, positive, probabilities)
    overall["calibration_error"] = calibration_error(task, positive, probabilities)
    if task == "binary":
        overall["threshold"] = float(chosen[0])
    per_class = {name: _finite({k: float(v[c]) for k, v in columns.items()}) for c, name in enumerate(names)}
    return Evaluation(
        overall=_finite(overall),
        per_class={} if task == "binary" else per_class,
        undefined=_undefined(positive, names),
        thresholds=chosen,
        auc_interval=interval.method,
    )


def positive_class(task: TaskKind, class_names: Sequence[str]) -> str | None:
    """The class that the metrics of two classes are about: the second; None for other tasks."""
    return class_names[1] if task == "binary" else None


def positives(task: TaskKind, labels: NDArray[np.integer], n_columns: int) -> Flags:
    """Which images are of each column's class, (n, C): bool, or uint8 where some labels are not known."""
    if task == "multilabel":
        present = is_present(labels)
        return present if (present | is_absent(labels)).all() else labels.astype(np.uint8)
    if task == "binary":
        flags: Bools = (labels == 1)[:, None]
        return flags
    one_hot: Bools = labels[:, None] == np.arange(n_columns)
    return one_hot


def has_auc(task: TaskKind, labels: NDArray[np.integer], n_classes: int) -> bool:
    """Whether any class has both images that are of it and images that are not."""
    flags = positives(task, labels, n_classes)
    return bool((is_present(flags).any(axis=0) & is_absent(flags).any(axis=0)).any())


def average_precision_score(positive: Flags, scores: Floats) -> Floats:
    """Average precision of each column (C,): precision at each threshold, weighted by the recall it adds.

    Not interpolated, equal to scikit-learn's. NaN for a column without a positive image.
    """
    values = np.full(scores.shape[1], np.nan)
    for column in range(scores.shape[1]):
        true, false = counts_by_threshold(positive[:, column], scores[:, column])[1:]
        if true[-1] > 0:
            values[column] = np.sum(np.diff(true, prepend=0) / true[-1] * true / (true + false))
    return values


def counts_by_threshold(positive: Flags, scores: Floats) -> tuple[Floats, Floats, Floats]:
    """Distinct scores, falling; how many positive, and how many negative, images score as high or higher."""
    known = is_present(positive) | is_absent(positive)
    if not known.any():
        return np.zeros(1), np.zeros(1), np.zeros(1)
    flags, scores = is_present(positive[known]), scores[known]
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last = np.flatnonzero(np.concatenate([ranked[1:] != ranked[:-1], [True]]))
    true = np.cumsum(flags[order], dtype=np.float64)[last]
    return ranked[last], true, last + 1.0 - true


def choose_thresholds(positive: Flags, scores: Floats) -> Floats:
    """The threshold of each column (C,) with the greatest Youden's J = sensitivity + specificity - 1.

    It lies halfway to the next lower score, so that a new image near the border is not decided by rounding.
    Among equals the highest is taken. NaN where a class is missing.
    """
    chosen = np.full(scores.shape[1], np.nan)
    for column in range(scores.shape[1]):
        ranked, true, false = counts_by_threshold(positive[:, column], scores[:, column])
        if true[-1] > 0 and false[-1] > 0:
            best = int(np.argmax(true / true[-1] - false / false[-1]))
            chosen[column] = border_below(ranked, best)
    return chosen


def border_below(ranked: Floats, place: int) -> float:
    """Halfway from a score, of distinct ones that fall, to the next; of the lowest the score itself.

    Never the next one, to which the middle of two neighbouring numbers (as near 1) may be rounded.
    """
    score = float(ranked[place])
    if place + 1 == len(ranked):
        return score
    middle = (score + float(ranked[place + 1])) / 2
    return middle if middle > ranked[place + 1] else score


def _at_thresholds(
    flags: Flags, scores: Floats, thresholds: Floats, member: Members | None
) -> dict[str, Floats]:
    """Sensitivity, specificity, precision and negative predictive value of each column with their intervals,
    {name: (C,)}.
    """
    called, known = scores >= thresholds, ~np.isnan(thresholds)
    positive, negative = is_present(flags), is_absent(flags)
    hits = called & positive
    passed = ~called & known
    parts = {
        "sensitivity": (hits, positive & known),
        "specificity": (passed & negative, negative & known),
        "precision": (hits, called & (positive | negative)),
        "npv": (passed & negative, passed & (positive | negative)),
    }
    values: dict[str, Floats] = {}
    for name, (successes, trials) in parts.items():
        found = share_interval(successes, trials, member)
        values |= zip((name, f"{name}_ci_low", f"{name}_ci_high"), found, strict=True)
    return values


def _accuracy(
    task: TaskKind,
    labels: NDArray[np.integer],
    probabilities: Floats,
    flags: Flags,
    thresholds: Floats,
    member: Members | None,
) -> dict[str, float]:
    """Share of right decisions: the likeliest class of a multiclass task, else what the thresholds say."""
    if task == "multiclass":
        right: Bools = (probabilities.argmax(axis=1) == labels)[:, None]
        tried = np.ones_like(right)
    else:
        judged = flags[:, ~np.isnan(thresholds)]
        called = (probabilities >= thresholds)[:, ~np.isnan(thresholds)]
        tried = is_present(judged) | is_absent(judged)
        right = (called == is_present(judged)) & tried
    value, low, high = share_interval(right, tried, member)
    return {
        "accuracy": _mean_of_defined(value),
        "accuracy_ci_low": _mean_of_defined(low),
        "accuracy_ci_high": _mean_of_defined(high),
    }


def log_loss(task: TaskKind, labels: NDArray[np.integer], values: NDArray[np.float64]) -> float:
    """Mean negative log-likelihood of the labels; multilabel: the mean over known labels.

    Probabilities below `TINY` count as that, so that one image adds at most 27.6.
    """
    if task == "multiclass":
        chosen = values[np.arange(len(labels)), labels]
        return float(-np.log(np.maximum(chosen, TINY)).mean())
    flags = positives(task, labels, values.shape[1])
    positive = is_present(flags)
    known = positive | is_absent(flags)
    return float(-np.log(np.maximum(np.where(positive, values, 1 - values), TINY)).mean(where=known))


def brier_loss(task: TaskKind, flags: Flags, probabilities: Floats) -> float:
    """Mean squared error of the probabilities (Brier 1950).

    Binary and multilabel: (p - y)^2, in [0, 1], the mean over labels. Multiclass: summed over classes, in [0,
    2].
    """
    positive = is_present(flags)
    squares = np.square(probabilities - positive)
    if task == "multiclass":
        return float(squares.sum(axis=1).mean())
    known = positive | is_absent(flags)
    with np.errstate(invalid="ignore"):
        return _mean_of_defined((squares * known).sum(axis=0) / known.sum(axis=0))


def calibration_error(task: TaskKind, positive: Flags, probabilities: Floats) -> float:
    """Expected calibration error: |mean probability - share that came true| over 15 bins, weighted by their
    size.

    Multiclass: of the likeliest class's probability (Guo et al. 2017). Binary: of the positive class's.
    Multilabel: the mean over labels.
    """
    if task == "multiclass":
        top = probabilities.argmax(axis=1)[:, None]
        probabilities = np.take_along_axis(probabilities, top, axis=1)
        positive = np.take_along_axis(positive, top, axis=1)
    errors = []
    for column in range(probabilities.shape[1]):
        flags = positive[:, column]
        known = is_present(flags) | is_absent(flags)
        if not known.any():
            continue
        values, came_true = probabilities[known, column], is_present(flags[known])
        bins = np.minimum((values * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
        gap = np.bincount(bins, weights=values - came_true, minlength=CALIBRATION_BINS)
        errors.append(np.abs(gap).sum() / len(values))
    return _mean_of_defined(errors) if errors else np.nan


def _undefined(flags: Flags, names: Sequence[str]) -> list[str]:
    """One line for each class whose AUC does not exist in this split."""
    lines = []
    for column, name in enumerate(names):
        count, others = int(is_present(flags[:, column]).sum()), int(is_absent(flags[:, column]).sum())
        if not count or not others:
            which = "no image of the split is" if count == 0 else f"all {count} images of the split are"
            lines.append(f"auc of class {name!r} is undefined: {which} of it")
    return lines


def _mean_of_defined(values: ArrayLike) -> float:
    """The mean of the finite values; NaN where there is none.

    Of interval ends too: the mean of K intervals' ends holds the mean's own interval however the K are
    correlated.
    """
    array = np.atleast_1d(np.asarray(values, dtype=np.float64))
    finite = array[np.isfinite(array)]
    return float(finite.mean()) if len(finite) else np.nan


def _finite(values: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if np.isfinite(value)}
