"""A phantom of H&E slide patches, by optical density: nuclei in stroma; crowded, enlarged or neither."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medfathom.data.phantoms.exact import PIXEL, WHOLE, Dice, Ints, blur, ellipse, soft

HEALTHY = "normal"
LESIONS = ("crowded", "enlarged")

# Ruifrok & Johnston (2001), optical density in red, green, blue, thousandths.
_HAEMATOXYLIN, _EOSIN = (650, 704, 286), (72, 990, 105)

_LENGTH = 65
# Directions of this length in whole numbers, by Pythagorean triples (65 = 5 x 13).
_DIRECTIONS = (
    (65, 0),
    (63, 16),
    (56, 33),
    (39, 52),
    (25, 60),
    (0, 65),
    (-25, 60),
    (-39, 52),
    (-56, 33),
    (-63, 16),
)


def _transmission(n: int) -> NDArray[np.uint8]:
    """Transmitted light, 0 to 255, at optical densities of 0 to n - 1 steps of a factor of 255/256 each."""
    light, levels = 255 << 16, []
    for _ in range(n):
        levels.append((light + (1 << 15)) >> 16)
        light = light * 255 >> 8
    return np.array(levels, dtype=np.uint8)


_LIGHT = _transmission(1600)


def render(
    size: int, lesions: frozenset[str], difficulty: int, anatomy: Dice, image: Dice
) -> NDArray[np.uint8]:
    """One patch, (size, size, 3). See `phantom.Render` for the arguments."""
    severity = image.between(0, 1000)
    strength = (200 + severity * 800 // 1000) * (2000 - difficulty) // 2000
    crowding = strength if "crowded" in lesions else 0
    growth = strength if "enlarged" in lesions else 0
    spread = 75 + difficulty * 30 // 1000
    n_nuclei = 26 * (1000 + crowding * 9 // 10) // 1000
    n_nuclei = n_nuclei * (1000 + image.between(-spread * 3, spread * 3)) // 1000
    radius = size * PIXEL * 55 // 1000 * (1000 + growth * 45 // 100) // 1000
    radius = radius * (1000 + image.between(-spread, spread)) // 1000
    haematoxylin = _nuclei(size, n_nuclei, radius, image)
    haematoxylin = haematoxylin * anatomy.between(230, 330) // WHOLE
    fibres = (image.field(size, 5) + image.field(size, 14)) // 2
    eosin = (WHOLE + fibres * 7 // 10) * anatomy.between(70, 120) // WHOLE
    eosin = eosin * (WHOLE - np.minimum(haematoxylin * 2, WHOLE)) // WHOLE
    grain = image.bell(size, size) // 40
    densities = [
        (haematoxylin * h + eosin * e) // 1000 + grain for h, e in zip(_HAEMATOXYLIN, _EOSIN, strict=True)
    ]
    light: NDArray[np.uint8] = _LIGHT[np.clip(np.stack(densities, axis=2), 0, len(_LIGHT) - 1)]
    return light


def _nuclei(size: int, n_nuclei: int, radius: int, image: Dice) -> Ints:
    """Cover by nuclei, 0 to 1024: ellipses of any direction, with a rim and chromatin inside."""
    cover = np.zeros((size, size), dtype=np.int64)
    side = size * PIXEL
    for _ in range(n_nuclei):
        x, y = image.between(0, side - 1), image.between(0, side - 1)
        length = radius * image.between(850, 1250) // 1000
        width = length * image.between(600, 950) // 1000
        _draw_nucleus(cover, (x, y), (length, width), _DIRECTIONS[image.between(0, len(_DIRECTIONS) - 1)])
    chromatin = image.bell(size, size)
    return cover * np.clip(WHOLE + blur(chromatin, 1) * 3, 0, 2 * WHOLE) // WHOLE


def _draw_nucleus(
    cover: Ints, centre: tuple[int, int], radii: tuple[int, int], direction: tuple[int, int]
) -> None:
    """Draw into the window around one nucleus only."""
    size, reach = len(cover), max(radii) // PIXEL + 2
    left, top = (max(c // PIXEL - reach, 0) for c in centre)
    right, bottom = (min(c // PIXEL + reach, size) for c in centre)
    dx = (np.arange(left, right, dtype=np.int64) * PIXEL + PIXEL // 2 - centre[0])[None, :]
    dy = (np.arange(top, bottom, dtype=np.int64) * PIXEL + PIXEL // 2 - centre[1])[:, None]
    along = (dx * direction[0] + dy * direction[1]) // _LENGTH
    across = (dy * direction[0] - dx * direction[1]) // _LENGTH
    nucleus = soft(ellipse(along, across, (0, 0), radii), 3)
    window = cover[top:bottom, left:right]
    np.maximum(window, nucleus, out=window)
