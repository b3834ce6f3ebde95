"""What an evaluation on other data found, as typed values and their JSON form.

Every interval is a 95 % interval, (low, high); None: undefined.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from medfathom.confirmation.decisions import Decision
from medfathom.metrics.intervals import difference_interval
from medfathom.trial.record import SplitMetrics

if TYPE_CHECKING:
    from medfathom.evaluation.subgroups import Subgroups

JsonObject = dict[str, object]


@dataclass(frozen=True)
class Value:
    """A number with its interval; None: undefined."""

    value: float | None
    low: float | None = None
    high: float | None = None


def value_of(value: float, low: float = math.nan, high: float = math.nan) -> Value:
    """With None for what is not finite."""
    return Value(*(each if math.isfinite(each) else None for each in (value, low, high)))


def metric(metrics: SplitMetrics | None, name: str) -> Value:
    """A metric of a split with its interval, by name."""
    return Value(*(getattr(metrics, f"{name}{end}", None) for end in ("", "_ci_low", "_ci_high")))


def difference(first: Value, second: Value) -> Value | None:
    """The first less the second, of independent samples; None where one has no interval."""
    if first.value is None or first.low is None or first.high is None:
        return None
    if second.value is None or second.low is None or second.high is None:
        return None
    own, other = (first.low, first.high), (second.low, second.high)
    return Value(*difference_interval(first.value, own, second.value, other))


@dataclass(frozen=True)
class Calibration:
    """How right the probabilities of one class are; `metrics.reliability` explains the line.

    Attributes:
        name: of the class; of two classes the positive one.
        slope, intercept, in_the_large: of the calibration line.
        error: expected calibration error, 15 bins. No interval: its bootstrap is biased upwards.
        mean_probability: predicted.
        share: of images (or cases) that are of the class.
    """

    name: str
    slope: Value
    intercept: Value
    in_the_large: Value
    error: float | None
    mean_probability: float
    share: float


@dataclass(frozen=True)
class Recalibrated:
    """Recalibration on some of the images, judged on the rest.

    Attributes:
        n_used, n_judged: images (or cases) drawn, in whole patients, and left.
        how: the method in words.
        before, after: metric -> value on the rest, with the model's own probabilities and with the new ones.
        lines_before, lines_after: calibration of each class on the rest.
        thresholds: chosen anew on the drawn ones, of the new probabilities; None where there is none.
    """

    n_used: int
    n_judged: int
    how: str
    before: Mapping[str, float]
    after: Mapping[str, float]
    lines_before: Sequence[Calibration]
    lines_after: Sequence[Calibration]
    thresholds: Sequence[float | None]


@dataclass(frozen=True)
class OverlapFound:
    """What was found of the training images among the others.

    Attributes:
        compared: with how many training and validation images; None: the model does not carry their
            fingerprints.
        exact, near: images that are exact or near copies.
        patients: patients whose name is that of a training patient; `patient_images` are their images.
        auc_without: AUC without all copies and these patients; None: nothing was found, or a class has too
            few images left.
        by_image: whether near copies were looked for by the images too, and not by fingerprints alone.
    """

    compared: int | None
    exact: int = 0
    near: int = 0
    patients: int = 0
    patient_images: int = 0
    auc_without: Value | None = None
    by_image: bool = False


@dataclass(frozen=True)
class Histogram:
    """Scores of one class: how many images (or cases) of it, and of the others, are in each of 20 bins."""

    name: str
    of_class: Sequence[int]
    others: Sequence[int]


@dataclass(frozen=True)
class Flipped:
    """An AUC below 0.5 with its whole interval.

    Attributes:
        auc: the AUC and its interval.
        inverted: AUC with white and black exchanged; None: it was not tried (cases).
    """

    auc: Value
    inverted: float | None


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A model on labelled data of another place.

    Attributes:
        name: of the data.
        model: architecture, study and trial, in words.
        when: local time.
        fingerprint: SHA-256 over the images and labels that were judged.
        unit: what is judged.
        n_images, n_units: read; of cases the number of cases.
        n_patients: None: not known, every image (or case) counts as independent.
        counts: class -> number of images (or cases); with several labels those that have it.
        left_out: class of the data that the model does not know -> images.
        unreadable: file -> why it was skipped.
        missing: classes of the model that no image has.
        flipped: None: the AUC's interval is not below 0.5.
        overlap: with the training images.
        metrics: as on a test split, with the thresholds of the model.
        internal: the same on the model's own test split, means over the classes that have a value on these
            data too; None: the model does not say.
        drop: metric -> internal less external, with its interval.
        intervals: average precision, log loss and Brier loss, with their intervals by patient.
        calibration: of each class.
        recalibrated: None: it was not asked for.
        subgroups: likewise.
        histograms: of each class.
        decisions: of each class that has a threshold.
        remarks: how images were changed to fit the model, and what else a reader should know.
    """

    name: str
    model: str
    when: str
    fingerprint: str
    unit: str
    n_images: int
    n_units: int
    n_patients: int | None
    counts: Mapping[str, int]
    left_out: Mapping[str, int]
    unreadable: Mapping[str, str]
    missing: Sequence[str]
    flipped: Flipped | None
    overlap: OverlapFound
    metrics: SplitMetrics
    internal: SplitMetrics | None
    drop: Mapping[str, Value]
    intervals: Mapping[str, Value]
    calibration: Sequence[Calibration]
    histograms: Sequence[Histogram]
    decisions: Sequence[Decision] = ()
    recalibrated: Recalibrated | None = None
    subgroups: Subgroups | None = None
    remarks: Sequence[str] = field(default_factory=list)

    def to_dict(self) -> JsonObject:
        """JSON form."""
        fields = {name: value for name, value in vars(self).items() if name not in ("metrics", "internal")}
        plain: JsonObject = {name: _plain(value) for name, value in fields.items()}
        internal = None if self.internal is None else self.internal.model_dump(exclude_none=True)
        return plain | {"metrics": self.metrics.model_dump(exclude_none=True), "internal": internal}


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return asdict(value) if hasattr(value, "__dataclass_fields__") else value  # type: ignore[call-overload]
