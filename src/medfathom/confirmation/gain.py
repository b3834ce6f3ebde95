"""What is gained over the single best model, by several models or by several views of each image.

Whether it pays is decided on the validation split; the test split only tells what was gained.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from medfathom.confirmation.find import predictions_file
from medfathom.confirmation.paired import mean_auc_gain
from medfathom.confirmation.predictions import read_logits, read_predictions
from medfathom.metrics.calibration import calibrated
from medfathom.models.folder import read_config

if TYPE_CHECKING:
    from medfathom.confirmation.predictions import Predicted


class Gain(BaseModel):
    """A difference of two AUCs on the same images, with its paired 95 % interval."""

    model_config = ConfigDict(frozen=True)

    value: float
    ci: tuple[float, float]


class Gains(BaseModel):
    """AUCs, mean over classes, on both splits, and those of the single best model.

    Attributes:
        val_auc, single_val_auc, test_auc, single_test_auc: with what is judged, and of the model alone.
        val_gain, test_gain: the differences of these AUCs.
    """

    model_config = ConfigDict(frozen=True)

    val_auc: float
    single_val_auc: float
    test_auc: float
    single_test_auc: float
    val_gain: Gain
    test_gain: Gain

    @property
    def pays(self) -> bool:
        """Whether the interval of the gain on validation lies above 0."""
        return self.val_gain.ci[0] > 0


def find_gains(folder: Path, single: Path) -> Gains:
    """Compare the predictions of a folder with those of the single model."""
    val_auc, single_val_auc, val_gain = _compared(folder, single, "val")
    test_auc, single_test_auc, test_gain = _compared(folder, single, "test")
    return Gains(
        val_auc=val_auc,
        single_val_auc=single_val_auc,
        test_auc=test_auc,
        single_test_auc=single_test_auc,
        val_gain=val_gain,
        test_gain=test_gain,
    )


def _compared(folder: Path, single: Path, split: str) -> tuple[float, float, Gain]:
    first, second = (_predicted(place, split) for place in (folder, single))
    groups = None if first.groups is None else list(first.groups)
    own, alone, ci = mean_auc_gain(second.positive, first.probabilities, second.probabilities, groups)
    return own, alone, Gain(value=own - alone, ci=ci)


def _predicted(folder: Path, split: str) -> Predicted:
    return (
        predicted_on_validation(folder)
        if split == "val"
        else read_predictions(predictions_file(folder, split))
    )


def predicted_on_validation(folder: Path) -> Predicted:
    """A model's predictions there, calibrated by its temperature.

    Curves of isotonic regression and Venn-Abers were fitted there, and would flatter.
    """
    read, config = read_predictions(predictions_file(folder, "val")), read_config(folder)
    if config.calibration == "temperature":
        return read
    logits = read_logits(predictions_file(folder, "val"))[0]
    return replace(read, probabilities=calibrated(config.task, logits, config.temperature))


def verdict(found: Gains, *, kept: bool) -> str:
    """Whether it is kept, and why."""
    if found.pays:
        return "It is kept, as the interval is above 0."
    return "It is kept on request." if kept else "It is not kept, as the interval is not above 0."


def gain_on(split: str, found: Gains) -> str:
    """Both AUCs on `validation` or `test` and the gain with its interval, in words."""
    own, alone, gain = (
        (found.val_auc, found.single_val_auc, found.val_gain)
        if split == "validation"
        else (found.test_auc, found.single_test_auc, found.test_gain)
    )
    ends = f"95 % interval {gain.ci[0]:+.4f} to {gain.ci[1]:+.4f}"
    return f"{own:.4f} against {alone:.4f}, gain {gain.value:+.4f} ({ends})."
