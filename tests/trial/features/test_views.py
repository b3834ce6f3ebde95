from __future__ import annotations

import numpy as np
import pytest
import torch

from medfathom.trial.features.views import CHUNK, view_name, view_rows
from medfathom.trial.inputs import pixels, raw_pixels
from medfathom.trial.rows import ResidentRows

CPU = torch.device("cpu")
IMAGES = np.random.default_rng(0).integers(0, 256, (CHUNK + 10, 16, 16, 1), dtype=np.uint8)


def view(preset: str, number: int, images: np.ndarray = IMAGES) -> torch.Tensor:
    return view_rows(ResidentRows(images, CPU), preset, number, 0, len(images))


def test_without_augmentation_images_stay() -> None:
    np.testing.assert_array_equal(view("none", 0).numpy(), IMAGES)
    assert view_name("none", 0) == "none"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_views_repeat_and_differ(dtype: type) -> None:
    images = IMAGES.astype(dtype)
    first = view("oct", 0, images)
    assert first.shape == images.shape
    assert torch.equal(first, view("oct", 0, images))
    assert not torch.equal(first, view("oct", 1, images))
    assert not np.array_equal(first.numpy(), images)
    assert view_name("oct", 0) != view_name("oct", 1)


def test_chunks_are_augmented_each_on_its_own() -> None:
    same = np.repeat(IMAGES[:1], 2 * CHUNK, axis=0)
    seen = view("oct", 0, same)
    assert not torch.equal(seen[:CHUNK], seen[CHUNK:])


def test_raw_pixels_are_the_inverse_of_pixels() -> None:
    every = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1)
    assert torch.equal(raw_pixels(pixels(every), torch.uint8), every)
    wide = torch.arange(-32768, 32768, dtype=torch.int32).to(torch.int16).view(1, 256, 256, 1)
    assert torch.equal(raw_pixels(pixels(wide), torch.int16), wide)


def test_a_part_of_a_view_is_the_same_alone() -> None:
    rows = ResidentRows(IMAGES, CPU)
    assert torch.equal(view_rows(rows, "oct", 1, CHUNK, len(IMAGES)), view("oct", 1)[CHUNK:])
