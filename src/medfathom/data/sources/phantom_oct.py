"""A phantom of macular OCT: a layered retina with speckle; drusen, fluid or neither.

Lesions range from hardly there to plain, so that even a perfect reader misses some. `difficulty` lowers
their size and contrast and raises the speckle.
"""

from __future__ import annotations

import numpy as np

from medfathom.data.sources.exact import GREY, PIXEL, Dice, Ints, blur, dome, steps, to_grey

CLASS_NAMES = ("none", "drusen", "fluid")

# Depth below the inner surface in 1/1024 of the retina's thickness, grey level there. Order: vitreous,
# nerve fibres, ganglion cells, inner nuclear, outer plexiform, outer nuclear, photoreceptors, pigment
# epithelium, choroid.
_DEPTHS = (
    -60,
    -20,
    10,
    110,
    150,
    400,
    430,
    520,
    550,
    600,
    640,
    850,
    880,
    930,
    960,
    1010,
    1030,
    1110,
    1160,
    1600,
    2047,
)
_GREYS = (18, 24, 150, 140, 104, 96, 66, 64, 104, 100, 58, 54, 130, 126, 88, 100, 190, 184, 110, 60, 30)
_FIRST = -64
_PROFILE = steps(_DEPTHS, [grey * GREY for grey in _GREYS], _FIRST, 2048)


def render(size: int, kind: str, difficulty: int, anatomy: Dice, image: Dice) -> np.ndarray:
    """One B-scan, uint8 (size, size, 1).

    Args:
        size: side, pixels.
        kind: one of CLASS_NAMES.
        difficulty: 0 to 1000.
        anatomy: what all images of one patient share.
        image: what is this image's own.
    """
    side = size * PIXEL
    x = np.arange(size, dtype=np.int64) * PIXEL + PIXEL // 2
    y = x[:, None]
    pit = dome((x - side * image.between(350, 650) // 1000) ** 2, side * anatomy.between(150, 260) // 1000)
    outer = (
        side * anatomy.between(560, 700) // 1000
        + anatomy.curve(size, side // 16)
        + image.curve(size, side // 50)
    )
    inner = (
        outer
        - side * anatomy.between(340, 440) // 1000
        + pit * (side * anatomy.between(60, 130) // 1000) // 1024
    )
    strength = _strength(image, difficulty)
    lift = _drusen(x, side, strength if kind == "drusen" else strength // 12, image)
    depth = (y - inner) * 1024 // (outer - lift - inner)
    picture = _PROFILE[np.clip(depth, _FIRST, 2047) - _FIRST]
    under_lift = (depth > 1110) & (y < outer + side // 40) & (lift > 0)
    picture = np.where(under_lift, 104 * GREY, picture)
    picture = _fluid(picture, x, inner, outer, strength if kind == "fluid" else strength // 12, image)
    return _speckle(_shadows(picture, x, side, image), difficulty, image)[:, :, None]


def _strength(image: Dice, difficulty: int) -> int:
    """How plain this image's lesion is, 0 to 1000."""
    severity = image.between(0, 1000)
    return (300 + severity * 700 // 1000) * (2400 - difficulty) // 2400


def _drusen(x: Ints, side: int, strength: int, image: Dice) -> Ints:
    """How far each column's pigment epithelium is lifted by two or three deposits."""
    lift = np.zeros_like(x)
    for _ in range(image.between(2, 3)):
        centre = side * image.between(120, 880) // 1000
        radius = side * image.between(55, 110) // 1000
        height = side * image.between(100, 170) // 1000 * strength // 1000
        lift = np.maximum(lift, dome((x - centre) ** 2, radius) * height // 1024)
    return lift


def _fluid(picture: Ints, x: Ints, inner: Ints, outer: Ints, strength: int, image: Dice) -> Ints:
    """Darken three to five cysts in the inner and outer nuclear layers."""
    y = x[:, None]
    for _ in range(image.between(3, 5)):
        column = image.between(len(x) * 15 // 100, len(x) * 85 // 100)
        thickness = int(outer[column] - inner[column])
        middle = int(inner[column]) + thickness * image.between(450, 780) // 1000
        height = thickness * image.between(200, 300) // 1000 * (500 + strength // 2) // 1000
        # An ellipse half again as wide as high: distances across are shortened.
        squared = (y - middle) ** 2 + ((x - x[column]) * 2 // 3) ** 2
        cover = np.minimum(dome(squared, height) * 3, 1024) * strength // 1000
        picture = picture + (20 * GREY - picture) * cover // 1024
    return picture


def _shadows(picture: Ints, x: Ints, side: int, image: Dice) -> Ints:
    """Vessels above throw shadows in every image, so that a dark spot alone says little."""
    light = np.full_like(x, 1024)
    for _ in range(image.between(1, 3)):
        centre, radius = side * image.between(0, 1000) // 1000, side * image.between(15, 35) // 1000
        light = light - dome((x - centre) ** 2, radius) * image.between(150, 450) // 1000
    return picture * np.maximum(light, 200) // 1024 * image.between(850, 1150) // 1000


def _speckle(picture: Ints, difficulty: int, image: Dice) -> np.ndarray:
    """Multiply by an exponential field (the square of two normal ones), averaged over neighbours."""
    size = len(picture)
    field = image.bell(size, size) ** 2 + image.bell(size, size) ** 2
    field = (field + blur(field, 1)) // 2
    mean = 2 * 148**2
    weight = 300 + difficulty * 300 // 1000
    noisy = picture * (1000 + (field - mean) * weight // mean) // 1000
    return to_grey((noisy + blur(noisy, 1)) // 2)
