"""What a confirmed model leaves besides its trial's record: written by the worker, read by the summary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from medfathom.metrics.calibrators import CalibrationScores
from medfathom.metrics.rules import CalibrationKind
from medfathom.trial.record import SplitMetrics

TEST = "test_"
"""What the attributes of the test split begin with: `auc` without it is always validation's."""

VALIDATION = "validation_"
"""What those begin with that were measured on validation after the calibration was fitted."""


DATASETS = TEST + "datasets"
"""The attribute of a model of several data sets that has the metrics of each."""


class ConfirmedDataset(BaseModel):
    """What a model of several data sets is worth on one of them.

    Attributes:
        n_test: images of its test split.
        test: metrics there.
        validation: metrics on its validation split with the same temperature and thresholds.
        temperature: fitted there.
        calibration: how probabilities are calibrated.
        calibrations: what each way of calibration is worth there, by cross-validation; None: too few.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    n_test: int
    test: SplitMetrics
    validation: SplitMetrics
    temperature: float
    calibration: CalibrationKind = "temperature"
    calibrations: list[CalibrationScores] | None = None


class ConfirmedRecord(BaseModel):
    """A confirmed model on the test split.

    Attributes:
        folder: name of its model folder.
        n_test: images of the test split; `test.n_cases` of how many cases, where cases are judged.
        datasets: of several data sets: what is known of each; metrics are then means over them.
        test: metrics there.
        validation: metrics on the validation split with the same temperature and thresholds; None: an older
            version confirmed it.
        temperature: fitted on the validation split.
        calibration: how probabilities are calibrated.
        calibrations: what each way is worth on the validation split, by cross-validation; None: too few
            images, or an older version confirmed it.
        pictures: files in the folder; None: none were drawn.
        picture_seconds: that drawing them took.
        cam_border_share: of what Grad-CAM shows, the share near the image's border, in [0, 1].
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    folder: str
    n_test: int
    test: SplitMetrics
    validation: SplitMetrics | None = None
    temperature: float | None = None
    calibration: CalibrationKind = "temperature"
    calibrations: list[CalibrationScores] | None = None
    datasets: dict[str, ConfirmedDataset] | None = None
    pictures: list[str] | None = None
    picture_seconds: float | None = None
    cam_border_share: float | None = None

    def attributes(self) -> dict[str, object]:
        """As user attributes: JSON values, without what is unknown."""
        own = self.model_dump(mode="json", exclude_none=True, exclude={"test", "validation", "datasets"})
        if self.datasets is not None:
            own[DATASETS] = {
                n: d.model_dump(mode="json", exclude_none=True) for n, d in self.datasets.items()
            }
        test = self.test.model_dump(mode="json", exclude_none=True)
        val = self.validation.model_dump(mode="json", exclude_none=True) if self.validation else {}
        own |= {VALIDATION + name: value for name, value in val.items()}
        return own | {TEST + name: value for name, value in test.items()}

    @classmethod
    def of(cls, attributes: Mapping[str, Any]) -> ConfirmedRecord:
        """Read from a confirmed trial's user attributes, those of earlier versions too.

        Raises:
            pydantic.ValidationError: an attribute is missing, or has a value of another type.
        """
        test = {name.removeprefix(TEST): v for name, v in attributes.items() if name.startswith(TEST)}
        val = {n.removeprefix(VALIDATION): v for n, v in attributes.items() if n.startswith(VALIDATION)}
        several = attributes.get(DATASETS)
        known = {**attributes, "test": test, "validation": val or None, "datasets": several}
        return cls.model_validate(known)
