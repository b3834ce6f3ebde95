"""From labels and logits to what a model is worth on other data. Everything here is numbers, no files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medfathom.confirmation.decisions import Decision, decisions
from medfathom.errors import DataError, InputError
from medfathom.evaluation.results import (
    Calibration,
    Histogram,
    Recalibrated,
    Value,
    difference,
    metric,
    value_of,
)
from medfathom.metrics.average_precision import average_precision_interval
from medfathom.metrics.calibration import as_array, calibrated, fit_temperature
from medfathom.metrics.classification import TaskKind, calibration_error, evaluate, has_auc, positives
from medfathom.metrics.influences import Floats, Members
from medfathom.metrics.losses import loss_intervals
from medfathom.metrics.operating import thresholds_by
from medfathom.metrics.probabilities import probabilities
from medfathom.metrics.reliability import Fitted, calibration_line, recalibrated, recalibration
from medfathom.metrics.rules import CALIBRATIONS
from medfathom.metrics.unknown import is_absent, is_present
from medfathom.models.folder import ModelConfig
from medfathom.trial.record import SplitMetrics

BINS = 20
"""Of a histogram of scores."""

COMPARED = ("auc", "average_precision", "sensitivity", "specificity", "precision", "npv", "accuracy")
"""Metrics whose drop is told, where both have an interval."""


OVER_LABELS = ("accuracy", "log_loss", "brier_loss", "calibration_error")
"""Metrics of all labels together, of which no label has its own."""


@dataclass(frozen=True)
class Predictions:
    """A model's logits and the truth, of m images or cases.

    Attributes:
        config: of the model.
        labels: in the model's classes, (m,) or (m, K).
        logits: (m, outputs).
        groups: the patient of each, (m,); None: not known.
    """

    config: ModelConfig
    labels: NDArray[Any]
    logits: NDArray[np.floating]
    groups: NDArray[Any] | None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def task(self) -> TaskKind:
        """Of the model."""
        return self.config.task

    @property
    def probabilities(self) -> Floats:
        """Calibrated as the model says, (m, C)."""
        return self.config.calibrated(self.logits)

    @property
    def names(self) -> list[str]:
        """Of the C columns."""
        return list(self.config.class_names[1:] if self.task == "binary" else self.config.class_names)

    @property
    def member(self) -> Members | None:
        """Each one's patient as a number."""
        if self.groups is None:
            return None
        found: Members = np.unique(self.groups, return_inverse=True)[1]
        return found

    @property
    def independent(self) -> Members:
        """The same, where each stands for itself if the patients are not known, (m,)."""
        found = self.member
        return np.arange(len(self)) if found is None else found

    def part(self, rows: NDArray[Any]) -> Predictions:
        """Some of them."""
        groups = None if self.groups is None else self.groups[rows]
        return Predictions(self.config, self.labels[rows], self.logits[rows], groups)


def check_judgeable(found: Predictions, missing: Sequence[str]) -> None:
    """Raise DataError where no AUC exists, or where one patient is all there is."""
    if not has_auc(found.task, found.labels, len(found.config.class_names)):
        why = f"no image is of class {missing[0]!r}" if missing else "all images are of one class"
        raise DataError(f"the data have no AUC: {why}; images of a class and of another one are needed")
    if found.groups is not None and len(np.unique(found.groups)) < 2:
        raise DataError(
            f"all {len(found)} images are of one patient ({found.groups[0]}), so no interval can be "
            "computed; give the data of several patients, or check group_column or group_pattern"
        )


def metrics_of(found: Predictions, thresholds: Sequence[float | None] | None = None) -> SplitMetrics:
    """Every metric, with the model's thresholds (or these)."""
    config = found.config
    chosen = as_array(config.thresholds if thresholds is None else thresholds)
    if not len(chosen):
        chosen = np.full(found.probabilities.shape[1], np.nan)
    result = evaluate(
        found.task,
        found.labels,
        found.probabilities,
        config.class_names,
        thresholds=chosen,
        groups=found.groups,
    )
    return SplitMetrics.measured(result, config.positive, None if config.unit == "image" else len(found))


def classes_with(metrics: SplitMetrics, name: str) -> set[str]:
    """The classes that have a metric; none where none is told for each class."""
    return {c for c, values in (metrics.per_class or {}).items() if name in values}


def _known_classes(metrics: SplitMetrics) -> set[str]:
    """The classes that are known of any image."""
    return {c for c, values in (metrics.per_class or {}).items() if values.get("n_known", 1)}


def over_same_classes(internal: SplitMetrics | None, external: SplitMetrics) -> SplitMetrics | None:
    """The own test split's metrics as means over the classes that have them on the other data too.

    A mean over 14 labels less one over 5 of them would be no drop. None is what has no such mean: also
    accuracy and losses over all labels, where the other data know fewer. Ends are means of the classes' ends,
    as in `metrics.classification`.
    """
    if internal is None or not external.per_class:
        return internal
    own, update = internal.per_class or {}, dict[str, float | None]()
    if _known_classes(internal) != _known_classes(external):
        ends = ("", "_ci_low", "_ci_high")
        update = {
            f"{name}{end}": None for name in OVER_LABELS for end in ends if hasattr(internal, f"{name}{end}")
        }
    for name in COMPARED:
        here = classes_with(external, name)
        there = classes_with(internal, name) if own else set(external.per_class)
        if name == "accuracy" or here == there:
            continue
        for end in ("", "_ci_low", "_ci_high"):
            each = [own[c].get(f"{name}{end}") for c in here] if here and here <= own.keys() else [None]
            known = [value for value in each if value is not None]
            update[f"{name}{end}"] = sum(known) / len(known) if len(known) == len(each) else None
    return internal.model_copy(update=update)


def drops(internal: SplitMetrics | None, external: SplitMetrics) -> dict[str, Value]:
    """Metric -> internal less external, of those that both have with an interval."""
    found = {name: difference(metric(internal, name), metric(external, name)) for name in COMPARED}
    return {name: drop for name, drop in found.items() if drop is not None}


def by_patient(found: Predictions, metrics: SplitMetrics) -> dict[str, Value]:
    """Average precision (mean over classes), log loss and Brier loss with intervals by patient."""
    values = found.probabilities
    flags = positives(found.task, found.labels, values.shape[1])
    member = found.independent
    precision = average_precision_interval(flags, values, member)
    ends = {
        "average_precision": (precision.mean_low, precision.mean_high),
        **loss_intervals(found.task, found.labels, values, member),
    }
    known = {name: getattr(metrics, name) for name in ends}
    return {name: value_of(known[name], *ends[name]) for name in ends if known[name] is not None}


def calibration_of(found: Predictions, values: Floats | None = None) -> list[Calibration]:
    """How right the probabilities of each class are; `values` instead of the model's own."""
    values = found.probabilities if values is None else values
    flags, member = positives(found.task, found.labels, values.shape[1]), found.member
    lines = []
    for c, name in enumerate(found.names):
        known = is_present(flags[:, c]) | is_absent(flags[:, c])
        if not known.any():
            continue
        line = calibration_line(flags[:, c], values[:, c], member)
        error = calibration_error("binary", flags[:, c : c + 1], values[:, c : c + 1])
        lines.append(
            Calibration(
                name,
                _value(line.slope),
                _value(line.intercept),
                _value(line.in_the_large),
                value_of(error).value,
                float(values[known, c].mean()),
                float(is_present(flags[known, c]).mean()),
            )
        )
    return lines


def _value(fitted: Fitted) -> Value:
    return value_of(fitted.value, fitted.low, fitted.high)


def histograms_of(found: Predictions) -> list[Histogram]:
    """Scores of each class in 20 bins from 0 to 1."""
    values = found.probabilities
    flags = positives(found.task, found.labels, values.shape[1])
    edges = np.linspace(0, 1, BINS + 1)

    def counted(c: int, which: NDArray[np.bool_]) -> list[int]:
        counts: list[int] = np.histogram(values[which, c], edges)[0].tolist()
        return counts

    return [
        Histogram(name, counted(c, is_present(flags[:, c])), counted(c, is_absent(flags[:, c])))
        for c, name in enumerate(found.names)
    ]


def decisions_of(found: Predictions) -> list[Decision]:
    """What deciding by the model is worth on these images."""
    values = found.probabilities
    flags = positives(found.task, found.labels, values.shape[1])
    return decisions(flags, values, found.names, found.config.thresholds)


def recalibrate(found: Predictions, n: int, seed: int = 0) -> Recalibrated:
    """Fit probabilities anew on n images (or cases), drawn in whole patients; judge both on the rest.

    Two classes and several labels: intercept and slope of each column. Several classes: a temperature.

    Raises:
        InputError: n leaves too few, or the drawn ones or the rest lack a class.
    """
    drawn = _drawn(found, n, seed)
    own, rest = found.part(drawn), found.part(~drawn)
    classes = len(found.config.class_names)
    for part, what in ((own, "drawn images"), (rest, "remaining images")):
        if not has_auc(found.task, part.labels, classes):
            raise InputError(f"--recalibrate {n}: the {len(part)} {what} lack a class; take another number")
    if found.task == "multiclass":
        temperature = fit_temperature(found.task, own.labels, own.logits)
        before = found.config
        was = (
            f"{before.temperature:.3g}"
            if before.calibration == "temperature"
            else (CALIBRATIONS[before.calibration])
        )
        how = f"temperature {temperature:.3g} instead of {was}"
        on_own, values = (calibrated(found.task, each.logits, temperature) for each in (own, rest))
    else:
        on_own, values, how = _by_lines(own, rest)
    flags = positives(found.task, own.labels, on_own.shape[1])
    chosen = thresholds_by(found.config.threshold_rule, flags, on_own)
    return Recalibrated(
        len(own),
        len(rest),
        how,
        _judged(rest, rest.probabilities, as_array(found.config.thresholds)),
        _judged(rest, values, chosen),
        calibration_of(rest),
        calibration_of(rest, values),
        [value_of(each).value for each in chosen.tolist()],
    )


def _drawn(found: Predictions, n: int, seed: int) -> NDArray[np.bool_]:
    """Which are drawn: whole patients in random order, until there are n."""
    if not 0 < n < len(found):
        raise InputError(
            f"--recalibrate {n}: the data have {len(found)}, and some must remain to judge the model; take "
            "a smaller number"
        )
    member = found.independent
    sizes = np.bincount(member)
    order = np.random.default_rng(seed).permutation(len(sizes))
    n_groups = int(np.searchsorted(np.cumsum(sizes[order]), n)) + 1
    return np.isin(member, order[:n_groups])


def _by_lines(own: Predictions, rest: Predictions) -> tuple[Floats, Floats, str]:
    flags = positives(own.task, own.labels, own.probabilities.shape[1])
    on_own, values, said = own.probabilities, rest.probabilities, []
    for c, name in enumerate(own.names):
        line = recalibration(flags[:, c], on_own[:, c])
        if line is None:
            said.append(f"{name}: as it was, the drawn images give no calibration line")
            continue
        on_own[:, c] = recalibrated(on_own[:, c], *line)
        values[:, c] = recalibrated(values[:, c], *line)
        said.append(f"{name}: intercept {line[0]:.3g}, slope {line[1]:.3g}")
    return on_own, values, "; ".join(said)


RECALIBRATED = (
    "log_loss",
    "brier_loss",
    "calibration_error",
    "sensitivity",
    "specificity",
    "precision",
    "npv",
)


def _judged(rest: Predictions, values: Floats, thresholds: Floats) -> dict[str, float]:
    own = thresholds if len(thresholds) else np.full(values.shape[1], np.nan)
    result = evaluate(rest.task, rest.labels, values, rest.config.class_names, thresholds=own)
    return {name: result.overall[name] for name in RECALIBRATED if name in result.overall}


def auc_of_logits(found: Predictions, logits: NDArray[np.floating], rows: NDArray[np.int64]) -> float | None:
    """Mean AUC of other logits of some rows; None where there is none."""
    part = found.part(rows)
    if not has_auc(found.task, part.labels, len(found.config.class_names)):
        return None
    values = probabilities(found.task, logits)
    return evaluate(found.task, part.labels, values, found.config.class_names).overall.get("auc")
