"""Augmentation of trials with a frozen prefix: a fixed number of augmented copies of the training images.

Features can only be kept of images that come again. A view follows from the preset, its number and the images
alone, so that all trials see the same views, whether their features are kept or computed in every epoch.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch import Tensor

from medfathom.training.augmentation import augment
from medfathom.training.inputs import pixels, raw_pixels
from medfathom.training.randomness import generator
from medfathom.training.rows import Rows

CHUNK = 64
"""Images augmented together. A constant: a view's random numbers are drawn chunk by chunk."""

NO_AUGMENTATION = "none"


def view_name(preset: str, view: int) -> str:
    """What a view is called in a cache key."""
    return NO_AUGMENTATION if preset == NO_AUGMENTATION else f"{preset}/{view}"


def view_chunks(rows: Rows, preset: str, view: int) -> Iterator[Tensor]:
    """Raw images of one view, in order, in chunks, on the device."""
    parts = [np.arange(start, min(start + CHUNK, len(rows))) for start in range(0, len(rows), CHUNK)]
    for number, raw in enumerate(rows.batches(parts)):
        if preset == NO_AUGMENTATION:
            yield raw
        else:
            random = generator(0, "view", preset, view, number)
            yield raw_pixels(augment(pixels(raw), preset, random), raw.dtype)
