from typing import get_args

import pytest
import torch

from medfathom.definitions.space import AugmentationPreset
from medfathom.trial.augmentation import augment

PRESETS = get_args(AugmentationPreset)
ACTIVE = [preset for preset in PRESETS if preset != "none"]


def batch(channels: int = 3, n: int = 6, side: int = 32, seed: int = 0) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, channels, 4, 4, generator=random)
    return torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear").clamp(0.05, 0.95)


def run(images: torch.Tensor, preset: str, seed: int = 1) -> torch.Tensor:
    return augment(images, preset, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("channels", [1, 3])
def test_keeps_shape_type_and_range_and_leaves_its_input_alone(preset: str, channels: int) -> None:
    images = batch(channels)
    before = images.clone()
    result = run(images, preset)
    assert result.shape == images.shape
    assert result.dtype == images.dtype
    assert 0.0 <= float(result.min()) <= float(result.max()) <= 1.0
    assert torch.equal(images, before)


@pytest.mark.parametrize("preset", ACTIVE)
def test_same_seed_same_result_other_seed_another(preset: str) -> None:
    images = batch()
    assert torch.equal(run(images, preset), run(images, preset))
    assert not torch.equal(run(images, preset), run(images, preset, seed=2))


@pytest.mark.parametrize("preset", ACTIVE)
def test_images_of_a_batch_are_changed_differently(preset: str) -> None:
    same = batch(n=1).expand(8, -1, -1, -1)
    result = run(same, preset)
    assert not torch.equal(result[0], result[1])


def test_none_changes_nothing() -> None:
    assert torch.equal(run(batch(), "none"), batch())


def left_and_top_marks(n: int) -> torch.Tensor:
    images = torch.zeros(n, 1, 32, 32)
    images[:, :, 12:20, 2:8] = 0.9  # a bright block at the left
    images[:, :, 2:8, 8:24] = 0.5  # a grey one at the top
    return images


def brighter_half(images: torch.Tensor, dim: int) -> torch.Tensor:
    first, second = images.mean(dim=1).chunk(2, dim=dim)
    return first.sum(dim=(1, 2)) > second.sum(dim=(1, 2))


def test_a_chest_x_ray_is_flipped_neither_way() -> None:
    result = run(left_and_top_marks(64), "cxr")
    assert brighter_half(result, dim=2).all()
    assert brighter_half(result, dim=1).all()


def test_a_b_scan_is_mirrored_about_half_the_time_and_never_upside_down() -> None:
    result = run(left_and_top_marks(200), "oct")
    assert 70 <= int(brighter_half(result, dim=2).sum()) <= 130
    assert brighter_half(result, dim=1).all()


def test_a_patch_is_turned_in_all_eight_ways() -> None:
    result = run(left_and_top_marks(400), "wsi")
    left, top = brighter_half(result, dim=2), brighter_half(result, dim=1)
    # Sides of both blocks, and which of the two lies across: eight arrangements.
    wide = result[:, 0].amax(dim=1)  # brightest in each column
    bright_is_across = torch.maximum(wide[:, 4], wide[:, 27]) > 0.8
    seen = {tuple(bool(v) for v in row) for row in torch.stack([left, top, bright_is_across], 1)}
    assert len(seen) == 8


def test_nothing_zooms() -> None:
    images = torch.zeros(32, 1, 64, 64)
    images[:, :, 24:40, 24:40] = 1.0
    for preset in ("cxr", "oct"):
        result = run(images, preset)
        level = 0.5 * (result.amax(dim=(1, 2, 3)) + result.amin(dim=(1, 2, 3)))
        area = (result[:, 0] > level[:, None, None]).float().sum(dim=(1, 2))
        assert (area - 256.0).abs().max() < 26


def test_stain_jitter_keeps_white_nearly_white_and_tissue_in_its_colour() -> None:
    white = run(torch.full((16, 3, 8, 8), 1.0), "wsi")
    assert float(white.min()) > 0.94
    purple = torch.tensor([0.45, 0.25, 0.60])[None, :, None, None].expand(32, -1, 8, 8)
    result = run(purple, "wsi")
    mean = result.mean(dim=(2, 3))
    assert (mean[:, 1] < mean[:, 0]).all()
    assert (mean[:, 0] < mean[:, 2]).all()
    assert float((mean - purple[:, :, 0, 0]).abs().max()) < 0.15
    assert float(mean.std(dim=0).min()) > 0.005
