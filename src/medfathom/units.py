"""What is judged as one: an image, or a case of several images; and the words for it."""

from __future__ import annotations

from typing import Literal

Unit = Literal["image", "case", "volume", "slide"]
"""What has one label and is judged. All but `image` are cases: several images with one label (the slices of a
volume, the tiles of a slide, the images of a `case`)."""

Combine = Literal["mean", "max", "noisy_or", "attention"]
"""How the predictions of a case's images become one: see `metrics.cases.combine_logits`."""


def counted(n_images: int, n_cases: int | None, unit: str = "image", split: str = "test") -> str:
    """How many of a split were judged, in words.

    >>> counted(624, None), counted(192, 24, "volume")
    ('624 test images', '24 test volumes (192 images)')
    """
    if n_cases is None:
        return f"{n_images} {split} images"
    return f"{n_cases} {split} {unit}s ({n_images} images)"
