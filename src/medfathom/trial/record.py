"""What a trial leaves behind: one typed record, written after every epoch, kept as user attributes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, ConfigDict

from medfathom.metrics.cross_validated import FoldAuc

if TYPE_CHECKING:
    from medfathom.metrics.classification import Evaluation


class _Fields(BaseModel):
    """Named values, None where unknown. Attributes that have no field here are passed over when read."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class FeatureUse(_Fields):
    """Whether a frozen prefix's features were kept, and what that was expected to bring.

    Attributes:
        kept: whether the trial used kept features to its end.
        cut: layer groups below the place where features are kept, 1 to 5.
        bytes: of all features.
        seconds_saved: estimated; negative where keeping them costs more.
        why: the decision in words.
        views: augmented copies in use; 0: augmentation is drawn anew for every batch.
        by_way_of: earlier cuts whose features were gone on from.
        built_seconds: spent on computing features into the cache.
    """

    kept: bool
    cut: int
    bytes: int
    seconds_saved: float
    why: str
    views: int = 0
    by_way_of: list[int] | None = None
    built_seconds: float = 0.0


class Losses(_Fields):
    """Mean loss of each epoch so far, in order."""

    train: list[float]
    val: list[float]


class FoldScore(_Fields):
    """What a trial reached on one fold, after its last epoch there.

    Attributes:
        judged: its AUC, and what the interval of the mean over folds needs of it.
        val_loss: mean loss on the fold's validation images, as in training.
        log_loss: as in `SplitMetrics`.
    """

    judged: FoldAuc
    val_loss: float
    log_loss: float | None = None


class Phase(_Fields):
    """A stretch of epochs in which the same was trained.

    Attributes:
        first_epoch, last_epoch: of the trial, from 1; of a cross-validated one over all folds.
        groups: the layer groups that were trained besides the head, 1 (the stem) to 5.
        features_kept: whether features of the frozen prefix were kept for it.
    """

    first_epoch: int
    last_epoch: int
    groups: list[int]
    features_kept: bool


class SplitMetrics(_Fields):
    """What a model is worth on one split, each value in [0, 1] but `threshold`'s, with its 95 % interval.

    Means over classes where there are several; None where undefined. See `metrics.classification.evaluate`.
    """

    auc: float | None = None
    auc_ci_low: float | None = None
    auc_ci_high: float | None = None
    average_precision: float | None = None
    sensitivity: float | None = None
    sensitivity_ci_low: float | None = None
    sensitivity_ci_high: float | None = None
    specificity: float | None = None
    specificity_ci_low: float | None = None
    specificity_ci_high: float | None = None
    precision: float | None = None
    precision_ci_low: float | None = None
    precision_ci_high: float | None = None
    npv: float | None = None
    """Negative predictive value; `precision` is the positive one."""
    npv_ci_low: float | None = None
    npv_ci_high: float | None = None
    accuracy: float | None = None
    accuracy_ci_low: float | None = None
    accuracy_ci_high: float | None = None
    log_loss: float | None = None
    """At least 0, not bounded. In a search: of probabilities as the network gives them, not calibrated."""
    brier_loss: float | None = None
    """In [0, 2] for a multiclass task."""
    calibration_error: float | None = None
    threshold: float | None = None
    """Of a binary task's positive class."""
    positive: str | None = None
    """The positive class of a binary task; older records do not have it."""
    auc_interval: str | None = None
    """How the AUC's interval was computed."""
    per_class: dict[str, dict[str, float]] | None = None
    """Class name -> its metrics, where there are more than two classes or several labels."""
    undefined: list[str] | None = None
    """One sentence for each class whose AUC does not exist in this split."""
    n_cases: int | None = None
    """Cases of the split. Where there are cases, all metrics but these three are per case."""
    image_auc: float | None = None
    """Per image, each with its case's label; where there are cases."""
    image_auc_ci_low: float | None = None
    image_auc_ci_high: float | None = None
    objective_value: float | None = None
    """Of what the study looks for, where that is not the AUC: `objective` of its definition."""

    @property
    def value(self) -> float | None:
        """What the study looks for: `auc`, or another objective."""
        return self.auc if self.objective_value is None else self.objective_value

    @classmethod
    def measured(
        cls, found: Evaluation, positive: str | None, n_cases: int | None, **further: float | None
    ) -> Self:
        """What `metrics.classification.evaluate` found, as a record.

        Args:
            found: of the split's units.
            positive: the positive class of a binary task.
            n_cases: of the split; None where the unit is the image.
            further: `objective_value`; `image_auc` and its ends, where there are cases.
        """
        return cls(
            **found.overall,
            auc_interval=found.auc_interval,
            positive=positive,
            per_class=found.per_class or None,
            undefined=found.undefined or None,
            n_cases=n_cases,
            **further,
        )


METRIC_TITLES = (
    ("auc", "AUC"),
    ("image_auc", "AUC per image"),
    ("average_precision", "average precision"),
    ("sensitivity", "sensitivity"),
    ("specificity", "specificity"),
    ("precision", "PPV (precision)"),
    ("npv", "NPV"),
    ("accuracy", "accuracy"),
    ("log_loss", "log loss"),
    ("brier_loss", "Brier loss"),
    ("calibration_error", "calibration error"),
)
"""Metrics of a table, in order, with their titles."""


class TrialRecord(SplitMetrics):
    """A trial as its user attributes tell it; the metrics are the validation split's.

    Who wrote a field: the driver as the trial began (`stratum`, `definition_hash`, with what it was asked to
    train) and as it ended (`stop_reason`); the worker everything else, after every epoch.

    Attributes:
        family: timm's module of the architecture.
        init_source: where the weights came from, in words.
        calibrated: whether a random prefix's batch-norm statistics were estimated first.
        unfreeze_depth: layer groups trained besides the head, 0 to 5.
        strategy: which parts are trained, and when; `phases` says what was trained in which epochs.
        image_size: side of the square image that the network saw, pixels.
        n_params, n_trainable_params: of the network with its head.
        trainable_fraction, trainable_layer_fraction: of parameters, of weighted layers; in [0, 1]. Where a
            strategy trains more and more, at its most.
        depth: weighted layers on the longest path from input to logits.
        macs: multiply-accumulates for one image.
        latency_ms: for one image, where the trial ran; only where the study asks for it.
        n_train: training images that an epoch uses.
        epochs, max_epochs: run so far, and of the full length.
        train_seconds: of training and validation, earlier runs of the same trial included.
        images_per_second: trained on in the latest epoch.
        peak_memory_bytes, device_memory_bytes: the most that was held; the device's own (a GPU's).
        compute_type: `float32` or `bfloat16`.
        unit: what is judged where that is not the image: `case`, `volume` or `slide`.
        combine: how the predictions of its images become one.
        versions: package -> version.
        accumulation: where memory ran out: how many images of a batch were worked on at once.
        fitted_beside: how many other trials' heads were fitted beside its own, at most, see `trial.stack`;
            None: none. `train_seconds` has its share of that time.
        fold_aucs, folds: of a cross-validated trial, each fold's AUC so far, and all that is known of it;
            `auc`, its interval and `val_loss` are over these folds.
        train_auc: on at most 500 training images (of each data set), after the last epoch.
        datasets: data set -> its own metrics, where there are several; the trial's are then means over them.
        checkpoint_url_failure: why the checkpoint could not be shared, where it could not.
    """

    architecture: str | None = None
    family: str | None = None
    init: str | None = None
    init_source: str | None = None
    calibrated: bool | None = None
    unfreeze_depth: int | None = None
    strategy: str | None = None
    phases: list[Phase] | None = None
    image_size: int | None = None
    n_params: int | None = None
    n_trainable_params: int | None = None
    trainable_fraction: float | None = None
    trainable_layer_fraction: float | None = None
    depth: int | None = None
    macs: int | None = None
    latency_ms: float | None = None
    stratum: str | None = None
    seed: int | None = None
    n_train: int | None = None
    epochs: int | None = None
    max_epochs: int | None = None
    stop_reason: str | None = None
    train_seconds: float | None = None
    images_per_second: float | None = None
    peak_memory_bytes: int | None = None
    device_memory_bytes: int | None = None
    device: str | None = None
    compute_type: str | None = None
    unit: str | None = None
    combine: str | None = None
    dataset_fingerprint: str | None = None
    definition_hash: str | None = None
    versions: dict[str, str] | None = None
    feature_cache: FeatureUse | None = None
    accumulation: str | None = None
    fitted_beside: int | None = None
    train_loss: float | None = None
    val_loss: float | None = None
    train_auc: float | None = None
    losses: Losses | None = None
    fold_aucs: list[float] | None = None
    folds: list[FoldScore] | None = None
    datasets: dict[str, SplitMetrics] | None = None
    checkpoint_url_failure: str | None = None

    @property
    def finished(self) -> bool:
        """Whether the trial has run its full length."""
        return self.epochs is not None and self.epochs == self.max_epochs

    def attributes(self) -> dict[str, object]:
        """As user attributes: JSON values by field, without what is unknown."""
        return self.model_dump(mode="json", exclude_none=True)

    @classmethod
    def of(cls, attributes: Mapping[str, Any]) -> TrialRecord:
        """Read from user attributes, those of earlier versions too.

        Raises:
            pydantic.ValidationError: an attribute has a value of another type.
        """
        return cls.model_validate(attributes)
