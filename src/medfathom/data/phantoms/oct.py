"""A phantom of macular OCT: a layered retina with speckle; drusen, fluid or neither."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medfathom.data.phantoms.exact import (
    BELL_SPREAD,
    GREY,
    WHOLE,
    Dice,
    Ints,
    blur,
    dome,
    ellipse,
    grid,
    mix,
    soft,
    steps,
    to_grey,
)

HEALTHY = "none"
LESIONS = ("drusen", "fluid")

# (depth below the inner surface in 1/1024 of the retina's thickness, grey level there)
_LAYERS = (
    *((-60, 18), (-20, 24)),  # vitreous
    *((10, 150), (110, 140)),  # nerve fibres
    *((150, 104), (400, 96)),  # ganglion cells, inner plexiform
    *((430, 66), (520, 64)),  # inner nuclear
    *((550, 104), (600, 100)),  # outer plexiform
    *((640, 58), (850, 54)),  # outer nuclear
    *((880, 130), (930, 126)),  # photoreceptors
    *((960, 88), (1010, 100)),
    *((1030, 190), (1110, 184)),  # pigment epithelium
    *((1160, 110), (1600, 60), (2047, 30)),  # choroid
)
_FIRST, _LAST = -64, 2047
_PROFILE = steps([d for d, _ in _LAYERS], [g * GREY for _, g in _LAYERS], _FIRST, _LAST + 1)
_EPITHELIUM_ENDS = 1110
_DEPOSIT, _CYST = 104 * GREY, 20 * GREY


def render(
    size: int, lesions: frozenset[str], difficulty: int, anatomy: Dice, image: Dice
) -> NDArray[np.uint8]:
    """One B-scan, (size, size, 1). See `phantom.Render` for the arguments."""
    x, y, side = grid(size)
    pit = dome(x - side * image.between(350, 650) // 1000, side * anatomy.between(150, 260) // 1000)
    outer = side * anatomy.between(560, 700) // 1000 + anatomy.curve(size, side // 16)
    outer = (outer + image.curve(size, side // 50))[None, :]
    inner = outer - side * anatomy.between(340, 440) // 1000
    inner = inner + pit * (side * anatomy.between(60, 130) // 1000) // WHOLE
    strength = _strength(image, difficulty)
    # Every image has small irregularities of both kinds.
    lift = _drusen(x, side, strength if "drusen" in lesions else strength // 12, image)
    depth = (y - inner) * WHOLE // (outer - lift - inner)
    picture = _PROFILE[np.clip(depth, _FIRST, _LAST) - _FIRST]
    under_lift = (depth > _EPITHELIUM_ENDS) & (y < outer + side // 40) & (lift > 0)
    picture = np.where(under_lift, _DEPOSIT, picture)
    picture = _fluid(picture, inner, outer, strength if "fluid" in lesions else strength // 12, image)
    return _speckle(_shadows(picture, x, side, image), difficulty, image)[:, :, None]


def _strength(image: Dice, difficulty: int) -> int:
    """How clearly this image shows its lesions, 0 to 1000."""
    severity = image.between(0, 1000)
    return (300 + severity * 700 // 1000) * (2400 - difficulty) // 2400


def _drusen(x: Ints, side: int, strength: int, image: Dice) -> Ints:
    """How far each column's pigment epithelium is lifted by two or three deposits, (1, size)."""
    lift = np.zeros_like(x)
    for _ in range(image.between(2, 3)):
        centre = side * image.between(120, 880) // 1000
        radius = side * image.between(55, 110) // 1000
        height = side * image.between(100, 170) // 1000 * strength // 1000
        lift = np.maximum(lift, dome(x - centre, radius) * height // WHOLE)
    return lift


def _fluid(picture: Ints, inner: Ints, outer: Ints, strength: int, image: Dice) -> Ints:
    """Darken three to five cysts in the inner and outer nuclear layers."""
    size = len(picture)
    x, y, _ = grid(size)
    for _ in range(image.between(3, 5)):
        column = image.between(size * 15 // 100, size * 85 // 100)
        thickness = int(outer[0, column] - inner[0, column])
        middle = int(inner[0, column]) + thickness * image.between(450, 780) // 1000
        height = thickness * image.between(200, 300) // 1000 * (500 + strength // 2) // 1000
        cyst = ellipse(x, y, (int(x[0, column]), middle), (height * 3 // 2, height))
        picture = mix(picture, _CYST, soft(cyst, 3) * strength // 1000)
    return picture


def _shadows(picture: Ints, x: Ints, side: int, image: Dice) -> Ints:
    """Shadows of vessels, in every image: a dark spot alone is no lesion."""
    light = np.full_like(x, WHOLE)
    for _ in range(image.between(1, 3)):
        centre, radius = side * image.between(0, 1000) // 1000, side * image.between(15, 35) // 1000
        light = light - dome(x - centre, radius) * image.between(150, 450) // 1000
    return picture * np.maximum(light, 200) // WHOLE * image.between(850, 1150) // 1000


def _speckle(picture: Ints, difficulty: int, image: Dice) -> NDArray[np.uint8]:
    """Multiply by an exponential field (the squares of two normal ones), averaged over neighbours."""
    size = len(picture)
    field = image.bell(size, size) ** 2 + image.bell(size, size) ** 2
    field = (field + blur(field, 1)) // 2
    mean = 2 * BELL_SPREAD**2
    weight = 300 + difficulty * 300 // 1000
    noisy = picture * (1000 + (field - mean) * weight // mean) // 1000
    return to_grey((noisy + blur(noisy, 1)) // 2)
