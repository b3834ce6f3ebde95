"""Pictures of a model on other data: the same as `confirm` draws of the test split."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from medfathom.confirmation.grad_cam import draw_predictions
from medfathom.confirmation.pictures import draw_metrics, judged
from medfathom.data.prepared import Split
from medfathom.errors import InputError
from medfathom.evaluation.reading import Reader, RowImages
from medfathom.exported.model import Model, image_logits
from medfathom.metrics.calibration import calibrated


def draw(
    folder: Path,
    model: Model,
    reader: Reader,
    rows: NDArray[np.int64],
    split: Split,
    logits: NDArray[np.float32],
) -> list[str]:
    """Draw everything; images are read again where they are shown. Returns the names of the files.

    Args:
        folder: where they go; it may exist.
        model: at work.
        reader: of the data.
        rows: of the listing, one for each image of `split`.
        split: the images that were judged.
        logits: of them.

    Raises:
        InputError: the folder cannot be written.
    """
    config = model.config
    images = cast("NDArray[np.uint8]", RowImages(reader, rows))
    shown = replace(split, images=images)
    units = split.units.logits(config.task, logits, config.combine)
    of_images = None
    if config.image_temperature is not None:
        of_images = calibrated(config.task, image_logits(config, logits), config.image_temperature)
    found = judged(config, shown, config.calibrated(units), of_images)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return [*draw_metrics(folder, found), *draw_predictions(folder, model, found)[0]]
    except OSError as error:
        raise InputError(f"--pictures {folder}: cannot be written ({error.strerror})") from None
