"""Copies of training images among other images, by the images themselves: as `data check A B` finds them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from medfathom.data.check.across import near_across, small
from medfathom.data.prints import LEARNED, find_prepared
from medfathom.errors import DataError
from medfathom.files import home

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medfathom.data.prepared import PreparedData
    from medfathom.evaluation.reading import Reader
    from medfathom.models.folder import ModelConfig

AT_ONCE = 256
"""Images read again at once."""


def training_data(config: ModelConfig) -> PreparedData:
    """The prepared data that a model was trained on. Raises DataError where they are not on this machine."""
    found = find_prepared(home() / "cache", config.dataset_fingerprint)
    if found is None:
        raise DataError(
            f"--copies: the prepared training data of {config.dataset} are not on this machine (fingerprint "
            f"{config.dataset_fingerprint[:12]}); prepare them here with `medfathom data prepare`, or leave "
            "out --copies"
        )
    return found


def copies_by_image(
    data: PreparedData, reader: Reader, rows: NDArray[np.int64], tell: Callable[[int, int], None]
) -> NDArray[np.bool_]:
    """Which of m images are copies of training or validation images, (m,); the exact ones too.

    Args:
        data: that the model was trained on.
        reader: of the other images.
        rows: theirs.
        tell: called with how much is done, and of how much.
    """
    learned = [image for name in LEARNED for image in small(data.split(name).images)]
    others = [
        image
        for start in range(0, len(rows), AT_ONCE)
        for image in small(reader.images(rows[start : start + AT_ONCE].tolist()))
    ]
    found = np.zeros(len(rows), dtype=bool)
    found[[pair.second for pair in near_across(learned, others, tell).pairs]] = True
    return found
