"""Register one image to another, then compare their details.

Radiographs of different people look alike at a coarse scale; only a copy shares the details: noise, speckle,
texture. Details correlate only when they lie on one another, so a shifted, turned or cropped copy is
registered first, by the inverse compositional Lucas-Kanade algorithm (Baker and Matthews,
IJCV 2004) over similarity transforms, or over affine ones, where aspect ratios differ. Everything works on
batches: images are float32, (n, k, k), k even.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

Floats = NDArray[np.float32]
Maps = NDArray[np.float32]
"""(n, 2, 3): where a point (x, y, 1) of the first image lies in the second; the image is 2 wide and high."""

LEAST_OVERLAP = 0.7
"""Share of the first image that must lie within the second."""

LONGEST_STEP = 0.06
"""The largest shift, turn or growth in one iteration, in half sides: a bad start cannot run away."""

DETAILS = (0.7, 2.5)
"""The band of details, pixels. A finer one misses blurred copies; a coarser one compares anatomy."""

COARSE = (1.5, 8.0)
"""The band of details of images that were small before they became thumbnails: saving a small image again
changes its finer ones."""

COARSE_COPY = 0.985
"""Least correlation in that band of copies, where anatomy counts too. Of 5,827 radiographs of 28 pixels the
likest pairs have 0.983 and 0.981, and may be of one child; the others have 0.969 at most."""

LEAST_SPREAD = 0.05
"""The share of an image that its details in that band must fill, as if they were equally strong there. In an
image that is empty but for a corner of tissue, one blob decides: it lies on any other. Such pairs have 0.012
to 0.016; of radiographs one in a hundred is below 0.10, of histology patches below 0.06."""

NEARBY = 4.0
"""The strength of details is that within this distance (standard deviation), pixels."""

NOISE = 2.0
"""Details much weaker than this count little, grey levels of 255: noise that saving again changes."""

ROUGH, FINE = (1.0, 4.0), (0.5, 3.0)
"""The bands by which images are registered, pixels."""

LEAST_ALIKE = 0.6
"""Copies registered at half size correlate more than this in the rough band."""

AFFINE = 6
"""Numbers of an affine map; a similarity has 4."""

_DAMPING = 1e-4
"""Keeps the normal equations of featureless images solvable."""


def similarity(first: Floats, second: Floats, *, affine: bool = False, small: bool = False) -> Floats:
    """Correlation of the details of each registered pair, (n,) in [-1, 1]; -1 where they hardly overlap.

    A pair that is unlike even at half size is not registered further: its correlation there is returned.

    Args:
        first: images.
        second: of each a possible copy.
        affine: also register other aspect ratios and slants.
        small: of small images. A pair that correlates by COARSE_COPY in the band COARSE has that correlation,
            unless its details there are in one place (LEAST_SPREAD).
    """
    maps = np.tile(np.array([[[1, 0, 0], [0, 1, 0]]], dtype=np.float32), (len(first), 1, 1))
    rough, other = band(halved(first), *ROUGH), band(halved(second), *ROUGH)
    maps = _register(rough, other, maps, 6, affine)
    found = _correlation(rough, other, maps)
    alike = np.flatnonzero(found >= LEAST_ALIKE)
    if len(alike):
        first, second = first[alike], second[alike]
        maps = _exact(first, second, maps[alike], affine)
        fine = np.minimum(found[alike], _correlation(details(first), details(second), maps))
        if small:
            one, other = band(first, *COARSE), band(second, *COARSE)
            coarse = _correlation(one, other, maps)
            counts = (coarse >= COARSE_COPY) & (np.minimum(_spread(one), _spread(other)) >= LEAST_SPREAD)
            fine = np.where(counts, np.maximum(fine, coarse), fine)
        found[alike] = fine
    return found


def _spread(details: Floats) -> Floats:
    """The share of an image that its details fill, (n,) in (0, 1]: their participation ratio."""
    energy = np.square(details).reshape(len(details), -1)
    share: Floats = energy.sum(axis=1) ** 2 / (energy.shape[1] * np.square(energy).sum(axis=1) + 1e-9)
    return share


def _exact(first: Floats, second: Floats, maps: Maps, affine: bool) -> Maps:
    """Better maps, found at half size and then at full size."""
    for one, other in ((halved(first), halved(second)), (first, second)):
        maps = _register(band(one, *FINE), band(other, *FINE), maps, 4, affine)
    return maps


def details(images: Floats) -> Floats:
    """The band of details, each with the same strength wherever it is above the noise, about (-3, 3).

    Without this one strong edge (of a cover glass, the tissue or a layer) decides the correlation: it is in
    many images that are no copies.
    """
    found = band(images, *DETAILS)
    strength = np.sqrt(gaussian_filter(found * found, (0, NEARBY, NEARBY), output=np.float32))
    evened: Floats = found / (strength + NOISE)
    return evened


def band(images: Floats, fine: float, rough: float) -> Floats:
    """Details between two scales: the image blurred by `fine` less that blurred by `rough`.

    Both are standard deviations in pixels.
    """
    smooth = gaussian_filter(images, (0, fine, fine), output=np.float32) if fine else images
    difference: Floats = smooth - gaussian_filter(images, (0, rough, rough), output=np.float32)
    return difference


def halved(images: Floats) -> Floats:
    """Means of 2 x 2 pixels."""
    n, k, _ = images.shape
    means: Floats = images.reshape(n, k // 2, 2, k // 2, 2).mean(axis=(2, 4))
    return means


def unit(values: Floats, inside: Floats | None = None) -> Floats:
    """Rows of (n, m) less their mean and of length 1, both over `inside` (0 or 1); flat rows become 0."""
    if inside is None:
        centred = values - values.mean(axis=1, keepdims=True)
    else:
        total = np.maximum(inside.sum(axis=1, keepdims=True), 1.0)
        centred = (values - (values * inside).sum(axis=1, keepdims=True) / total) * inside
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    scaled: Floats = centred / np.maximum(length, 1e-6)
    return scaled


def _register(first: Floats, second: Floats, maps: Maps, iterations: int, affine: bool) -> Maps:
    """Better maps: `first` is the template, whose gradient never changes."""
    template = unit(first.reshape(len(first), -1))
    slopes = _steepest_descent(first, affine)
    normal = np.einsum("nik,njk->nij", slopes, slopes) + _DAMPING * np.eye(slopes.shape[1], dtype=np.float32)
    inverse = np.linalg.inv(normal)
    for _ in range(iterations):
        seen, inside = _warped(second, maps)
        error = (unit(seen, inside) - template) * inside
        step = np.einsum("nij,nj->ni", inverse, np.einsum("nik,nk->ni", slopes, error))
        maps = _composed(maps, np.clip(step, -LONGEST_STEP, LONGEST_STEP))
    return maps


def _steepest_descent(images: Floats, affine: bool) -> Floats:
    """How the normalised image changes as it grows, turns, moves right, moves down: (n, 4, k * k).

    Affine: as each of the six numbers of the map changes, row by row: (n, 6, k * k).
    """
    n, k, _ = images.shape
    x, y = _points(k)
    flat = images.reshape(n, -1)
    length = np.linalg.norm(flat - flat.mean(axis=1, keepdims=True), axis=1)
    down, across = (
        g.reshape(n, -1) * (k / 2) / np.maximum(length, 1e-6)[:, None]
        for g in np.gradient(images, axis=(1, 2))
    )
    if affine:
        each = [across * x, across * y, across, down * x, down * y, down]
    else:
        each = [across * x + down * y, down * x - across * y, across, down]
    slopes = np.stack(each, axis=1)
    centred: Floats = slopes - slopes.mean(axis=2, keepdims=True)
    return centred


def _composed(maps: Maps, step: Floats) -> Maps:
    """The maps after the inverse of a small growth, turn and shift, or affine change: (n, 4) or (n, 6)."""
    n = len(maps)
    change = np.tile(np.eye(3, dtype=np.float32), (n, 1, 1))
    if step.shape[1] == AFFINE:
        change[:, :2] += step.reshape(n, 2, 3)
    else:
        change[:, 0, 0] += step[:, 0]
        change[:, 1, 1] += step[:, 0]
        change[:, 0, 1], change[:, 1, 0] = -step[:, 1], step[:, 1]
        change[:, 0, 2], change[:, 1, 2] = step[:, 2], step[:, 3]
    whole = np.concatenate([maps, np.tile(np.array([[[0, 0, 1]]], dtype=np.float32), (n, 1, 1))], axis=1)
    composed: Maps = (whole @ np.linalg.inv(change))[:, :2]
    return composed


def _points(k: int) -> tuple[Floats, Floats]:
    """Pixel centres as (x, y), each (k * k,), from -1 to 1."""
    centres = (np.arange(k, dtype=np.float32) * 2 + 1) / k - 1
    return np.tile(centres, k), np.repeat(centres, k)


def _warped(images: Floats, maps: Maps) -> tuple[Floats, Floats]:
    """Each image seen through its map, (n, k * k), bilinear; and which points lie inside it (0 or 1)."""
    n, k, _ = images.shape
    x, y = _points(k)
    across = ((maps[:, 0, 0, None] * x + maps[:, 0, 1, None] * y + maps[:, 0, 2, None] + 1) * k - 1) / 2
    down = ((maps[:, 1, 0, None] * x + maps[:, 1, 1, None] * y + maps[:, 1, 2, None] + 1) * k - 1) / 2
    inside = (across >= 0) & (across <= k - 1) & (down >= 0) & (down <= k - 1)
    across, down = np.clip(across, 0, k - 1.001), np.clip(down, 0, k - 1.001)
    left, top = across.astype(np.int32), down.astype(np.int32)
    right_part, lower_part = across - left, down - top
    at = (np.arange(n, dtype=np.int32) * (k * k))[:, None] + top * k + left
    values = np.ascontiguousarray(images).reshape(-1)
    upper = values[at] * (1 - right_part) + values[at + 1] * right_part
    lower = values[at + k] * (1 - right_part) + values[at + k + 1] * right_part
    seen: Floats = upper * (1 - lower_part) + lower * lower_part
    return seen, inside.astype(np.float32)


def _correlation(first: Floats, second: Floats, maps: Maps) -> Floats:
    seen, inside = _warped(second, maps)
    product = unit(first.reshape(len(first), -1), inside) * unit(seen, inside)
    found: Floats = np.where(inside.mean(axis=1) >= LEAST_OVERLAP, product.sum(axis=1), -1.0)
    return found
