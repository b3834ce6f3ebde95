"""What "the search flattered" consists of: the best of many, and another split.

The search's AUC is the highest of many on the validation images; the same configuration trained again falls
back (*search optimism*). What is left between the retrained models' validation and test AUC is no fault of
the search: the two splits differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medfathom.confirmation.find import predictions_file
from medfathom.errors import ExportedModelError
from medfathom.metrics.auc import delong_interval
from medfathom.metrics.calibration import decide
from medfathom.metrics.intervals import difference_interval, reach_over_seeds
from medfathom.metrics.unknown import is_absent, is_present
from medfathom.models.folder import read_config

if TYPE_CHECKING:
    from medfathom.confirmation.predictions import Predicted

Interval = tuple[float, float]


@dataclass(frozen=True)
class Part:
    """A part of the gap, with its 95 % interval; None: one seed says nothing of others."""

    value: float
    ci: Interval | None


@dataclass(frozen=True)
class SplitRates:
    """A split at the carried threshold, mean over seeds.

    Attributes:
        prevalence: share of images (or cases) of the positive class.
        sensitivity, specificity: by the threshold from validation.
    """

    prevalence: float
    sensitivity: float
    specificity: float


@dataclass(frozen=True)
class Gap:
    """Search AUC less test AUC in two parts, which add up to it.

    Attributes:
        search: search AUC less the mean validation AUC of the same configuration trained again; its interval
            is over trainings.
        splits: that mean less the mean test AUC; its interval is over images (or cases) of both splits and
            over trainings.
        val, test: of two classes, both splits at the carried threshold; None: several classes or labels.
    """

    search: Part
    splits: Part
    val: SplitRates | None
    test: SplitRates | None

    @property
    def told_from_zero(self) -> bool:
        """Whether the interval of the difference between the splits excludes 0."""
        ci = self.splits.ci
        return ci is not None and not ci[0] <= 0 <= ci[1]

    def to_dict(self) -> dict[str, object]:
        """JSON form."""
        return asdict(self)


def gap_of(
    search_auc: float, val: Sequence[float], test: Sequence[float], folders: Sequence[Path]
) -> Gap | None:
    """The gap of one configuration; None where its validation predictions were not kept.

    Args:
        search_auc: validation AUC in the search.
        val: validation AUC of each seed.
        test: test AUC of each seed.
        folders: the models' folders.
    """
    from medfathom.confirmation.predictions import read_predictions  # noqa: PLC0415  imports pandas

    if not all(predictions_file(folder, "val").is_file() for folder in folders):
        return None
    parts = {
        split: [read_predictions(predictions_file(f, split)) for f in folders] for split in ("val", "test")
    }
    val_auc, test_auc = float(np.mean(val)), float(np.mean(test))
    on_val, on_test = _interval([_judged_on_validation(f) for f in folders]), _interval(parts["test"])
    value, low, high = difference_interval(val_auc, on_val, test_auc, on_test)
    seeds = _reach(np.array(val) - np.array(test))
    across = (value - float(np.hypot(value - low, seeds)), value + float(np.hypot(high - value, seeds)))
    fell, reach = search_auc - val_auc, _reach(np.array(val))
    search = Part(fell, (fell - reach, fell + reach) if len(val) > 1 else None)
    rates = {split: _rates(found, folders) for split, found in parts.items()}
    return Gap(search, Part(value, across), rates["val"], rates["test"])


def _reach(values: np.ndarray) -> float:
    """Of a mean over seeds; 0 for one seed."""
    return reach_over_seeds(float(values.std(ddof=1)), len(values)) if len(values) > 1 else 0.0


def _interval(parts: Sequence[Predicted]) -> Interval:
    """Of the mean AUC over seeds, images (or patients) drawn anew."""
    positive = np.concatenate([part.positive for part in parts], axis=1)
    values = np.concatenate([part.probabilities for part in parts], axis=1)
    found = delong_interval(positive, values, parts[0].groups)
    return found.mean_low, found.mean_high


def _judged_on_validation(folder: Path) -> Predicted:
    """Without curves that were fitted to these very images: their AUC is higher than the network's."""
    from medfathom.confirmation.gain import predicted_on_validation  # noqa: PLC0415  imports pandas
    from medfathom.confirmation.predictions import read_predictions  # noqa: PLC0415

    try:
        return predicted_on_validation(folder)
    except ExportedModelError:  # the folder was emptied: how it is calibrated is not known
        return read_predictions(predictions_file(folder, "val"))


def _rates(parts: Sequence[Predicted], folders: Sequence[Path]) -> SplitRates | None:
    if parts[0].probabilities.shape[1] != 1:
        return None
    try:
        called = [
            decide(part.probabilities, read_config(folder).thresholds)[:, 0]
            for part, folder in zip(parts, folders, strict=True)
        ]
    except ExportedModelError:  # the folder was emptied: the AUCs are known all the same
        return None
    flags = parts[0].positive[:, 0]
    positive, negative = is_present(flags), is_absent(flags)
    return SplitRates(
        float(positive.sum() / (positive | negative).sum()),
        float(np.mean([each[positive].mean() for each in called])),
        float(np.mean([(~each)[negative].mean() for each in called])),
    )
