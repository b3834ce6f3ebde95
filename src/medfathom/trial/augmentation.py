"""Augmentation presets, one for each modality: on the device, in batches, seeded.

Only changes that leave a label true. Nothing zooms: the width of a macular hole or of a nucleus may be the
label. Shifts are small, and what they uncover is mirrored. A chest X-ray is never flipped, neither upside
down nor left to right (the heart has its side); a B-scan is mirrored, as the other eye would show it;
tissue has no up or down, so a patch is turned and mirrored in all eight ways.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

Preset = Callable[[Tensor, torch.Generator], Tensor]

# Ruifrok & Johnston (2001), optical density of haematoxylin, eosin and a rest (DAB) in red, green and blue.
_STAINS = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78))
_STAIN_SCALE = 0.15
"""Half width of the factor on each stain. This and the shift: Tellez et al. (2018), light jitter."""
_STAIN_SHIFT = 0.02
_DARKEST = 1.0 / 255.0
"""Below this an optical density says nothing more."""


def augment(images: Tensor, preset: str, generator: torch.Generator) -> Tensor:
    """Change each image of a batch at random.

    Args:
        images: (n, c, s, s) floats in [0, 1], on any device; not changed in place.
        preset: its name; a `TrialParams` has no other.
        generator: source of all randomness, on any device; the same state gives the same result.

    Returns:
        The same shape, type, device and range.
    """
    return _PRESETS[preset](images, generator)


def _none(images: Tensor, generator: torch.Generator) -> Tensor:
    return images


def _cxr(images: Tensor, generator: torch.Generator) -> Tensor:
    moved = _move(images, generator, degrees=7.0, shift=0.04)
    return _exposure(moved, generator, brightness=0.08, contrast=0.15)


def _oct(images: Tensor, generator: torch.Generator) -> Tensor:
    mirrored = torch.where(_draw(images, generator, 1) < 0, images.flip(3), images)
    moved = _move(mirrored, generator, degrees=6.0, shift=0.05)
    return _exposure(moved, generator, brightness=0.05, contrast=0.15)


def _wsi(images: Tensor, generator: torch.Generator) -> Tensor:
    turned = torch.where(_draw(images, generator, 1) < 0, images.transpose(2, 3), images)
    turned = torch.where(_draw(images, generator, 1) < 0, turned.flip(2), turned)
    turned = torch.where(_draw(images, generator, 1) < 0, turned.flip(3), turned)
    return _stain_jitter(turned, generator)


def _draw(images: Tensor, generator: torch.Generator, values: int) -> Tensor:
    """Uniform numbers in [-1, 1), (n, values, 1, 1), drawn where the generator is."""
    drawn = torch.rand(len(images), values, 1, 1, generator=generator, device=generator.device)
    return (2.0 * drawn - 1.0).to(images)


def _move(images: Tensor, generator: torch.Generator, *, degrees: float, shift: float) -> Tensor:
    """Turn by up to `degrees`, shift by up to `shift` of the side; what comes into view is mirrored."""
    drawn = _draw(images, generator, 3).flatten(1)
    angle = drawn[:, 0] * math.radians(degrees)
    cos, sin = torch.cos(angle), torch.sin(angle)
    # affine_grid's image is 2 wide: a shift of a share of the side is twice that there.
    x, y = 2.0 * shift * drawn[:, 1], 2.0 * shift * drawn[:, 2]
    maps = torch.stack([torch.stack([cos, -sin, x], 1), torch.stack([sin, cos, y], 1)], 1)
    grid = functional.affine_grid(maps, list(images.shape), align_corners=False)
    moved = functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    return moved.clamp(0.0, 1.0)


def _exposure(images: Tensor, generator: torch.Generator, *, brightness: float, contrast: float) -> Tensor:
    """Stretch about the image's own mean by up to `contrast`, then add up to `brightness`."""
    drawn = _draw(images, generator, 2)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    stretched = (images - mean) * (1.0 + contrast * drawn[:, :1]) + mean
    return (stretched + brightness * drawn[:, 1:]).clamp(0.0, 1.0)


def _stain_jitter(images: Tensor, generator: torch.Generator) -> Tensor:
    """Scale and shift the amount of each stain, in optical density (grey images: of the only one)."""
    density = -torch.log(images.clamp(min=_DARKEST))
    colour = images.shape[1] == 3
    stains = functional.normalize(images.new_tensor(_STAINS), dim=1) if colour else images.new_ones(1, 1)
    drawn = _draw(images, generator, 2 * len(stains))
    amounts = torch.einsum("nchw,ck->nkhw", density, torch.linalg.inv(stains))
    factor, offset = drawn.chunk(2, dim=1)
    jittered = amounts * (1.0 + _STAIN_SCALE * factor) + _STAIN_SHIFT * offset
    return torch.exp(-torch.einsum("nkhw,kc->nchw", jittered, stains)).clamp(0.0, 1.0)


_PRESETS: dict[str, Preset] = {"none": _none, "cxr": _cxr, "oct": _oct, "wsi": _wsi}
