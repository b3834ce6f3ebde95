"""Augmentation of trials with a frozen prefix: a fixed number of augmented copies of the training images.

Features can only be kept of images that come again. A view follows from the preset, its number and the images
alone, so that all trials see the same views, whether their features are kept or computed in every epoch.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from medfathom.trial.augmentation import augment
from medfathom.trial.inputs import pixels, raw_pixels
from medfathom.trial.randomness import generator
from medfathom.trial.rows import Rows

CHUNK = 64
"""Images augmented together. A constant: a view's random numbers are drawn chunk by chunk."""

NO_AUGMENTATION = "none"


def view_name(preset: str, view: int) -> str:
    """What a view is called in a cache key."""
    return NO_AUGMENTATION if preset == NO_AUGMENTATION else f"{preset}/{view}"


def view_rows(rows: Rows, preset: str, view: int, start: int, stop: int) -> Tensor:
    """Raw images of one view, from `start`, a multiple of `CHUNK`, to before `stop`, on the device."""
    parts = [np.arange(low, min(low + CHUNK, stop)) for low in range(start, stop, CHUNK)]
    raws = rows.batches(parts)
    if preset == NO_AUGMENTATION:
        return torch.cat(list(raws))
    return torch.cat([_augmented(raw, preset, view, start // CHUNK + k) for k, raw in enumerate(raws)])


def _augmented(raw: Tensor, preset: str, view: int, chunk: int) -> Tensor:
    random = generator(0, "view", preset, view, chunk)
    return raw_pixels(augment(pixels(raw), preset, random), raw.dtype)
