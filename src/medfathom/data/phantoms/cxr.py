"""A phantom of chest X-rays: lungs, ribs, heart, spine; consolidation, a nodule or neither."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medfathom.data.phantoms.exact import (
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
    to_grey,
)

HEALTHY = "normal"
LESIONS = ("consolidation", "nodule")

_AIR, _LUNG, _TISSUE = 14 * GREY, 62 * GREY, 150 * GREY
_HEART, _SPINE, _RIB = 176 * GREY, 34 * GREY, 22 * GREY


def render(
    size: int, lesions: frozenset[str], difficulty: int, anatomy: Dice, image: Dice
) -> NDArray[np.uint8]:
    """One frontal chest X-ray, (size, size, 1). See `phantom.Render` for the arguments."""
    x, y, side = grid(size)
    middle = side * anatomy.between(480, 520) // 1000 + side * image.between(-15, 15) // 1000
    lungs = _lungs(x, y, side, middle, anatomy)
    body = ellipse(
        x, y, (middle, side * 11 // 20), (side * anatomy.between(480, 560) // 1000, side * 7 // 10)
    )
    picture = mix(np.full((size, size), _AIR), _TISSUE, soft(body, 6))
    picture = picture + dome(x - middle, side // 14) * _SPINE // WHOLE
    for centre, radii in lungs:
        picture = mix(picture, _LUNG, soft(ellipse(x, y, centre, radii), 4))
    picture = picture + _ribs(x, y, side, middle, anatomy) * soft(body, 4) // WHOLE
    heart_radii = (side * anatomy.between(130, 180) // 1000, side * anatomy.between(140, 180) // 1000)
    heart = ellipse(x, y, (middle + side * 6 // 100, side * anatomy.between(600, 660) // 1000), heart_radii)
    picture = mix(picture, _HEART, soft(heart, 4))
    picture = _lesions(picture, lungs, lesions, difficulty, image)
    return _film(picture, difficulty, image)[:, :, None]


Lungs = list[tuple[tuple[int, int], tuple[int, int]]]
"""Centre and radii of both."""


def _lungs(x: Ints, y: Ints, side: int, middle: int, anatomy: Dice) -> Lungs:
    height = side * anatomy.between(300, 370) // 1000
    width = side * anatomy.between(150, 190) // 1000
    distance = side * anatomy.between(195, 225) // 1000
    level = side * anatomy.between(470, 520) // 1000
    return [((middle + sign * distance, level), (width, height)) for sign in (-1, 1)]


def _ribs(x: Ints, y: Ints, side: int, middle: int, anatomy: Dice) -> Ints:
    """Bright bands that bend down to the sides."""
    period = side * anatomy.between(95, 120) // 1000
    bend = (x - middle) ** 2 * anatomy.between(500, 900) // 1000 // side
    phase = (y - bend + anatomy.between(0, period)) % period
    band = np.abs(phase * 2 * WHOLE // period - WHOLE)
    ribs: Ints = np.maximum(band - 600, 0) * _RIB // (WHOLE - 600)
    return ribs


def _lesions(picture: Ints, lungs: Lungs, lesions: frozenset[str], difficulty: int, image: Dice) -> Ints:
    """Each lesion somewhere in a lung; every image has a trace of both."""
    severity = image.between(0, 1000)
    strength = (250 + severity * 750 // 1000) * (2600 - difficulty) // 2600
    weak = strength // 12
    picture = _consolidation(picture, lungs, strength if "consolidation" in lesions else weak, image)
    return _nodule(picture, lungs, strength if "nodule" in lesions else weak, image)


def _place(lungs: Lungs, image: Dice) -> tuple[tuple[int, int], int]:
    """A point well inside a lung, and that lung's width."""
    (cx, cy), (rx, ry) = lungs[image.between(0, 1)]
    at = (cx + rx * image.between(-450, 450) // 1000, cy + ry * image.between(-550, 550) // 1000)
    return at, rx


def _consolidation(picture: Ints, lungs: Lungs, strength: int, image: Dice) -> Ints:
    """A patchy cloud."""
    size = len(picture)
    x, y, _ = grid(size)
    at, width = _place(lungs, image)
    radius = width * image.between(800, 1150) // 1000
    cloud = soft(ellipse(x, y, at, (radius, radius * image.between(800, 1300) // 1000)), 2)
    patches = np.clip(WHOLE + image.field(size, 12) // 2, 0, 2 * WHOLE)
    return picture + cloud * patches // WHOLE * (100 * GREY) // WHOLE * strength // 1000


def _nodule(picture: Ints, lungs: Lungs, strength: int, image: Dice) -> Ints:
    """One or two small round spots."""
    x, y, _ = grid(len(picture))
    for _ in range(image.between(1, 2)):
        at, width = _place(lungs, image)
        radius = width * image.between(360, 500) // 1000 * (700 + strength * 3 // 10) // 1000
        spot = soft(ellipse(x, y, at, (radius, radius)), 2)
        picture = picture + spot * (115 * GREY) // WHOLE * strength // 1000
    return picture


def _film(picture: Ints, difficulty: int, image: Dice) -> NDArray[np.uint8]:
    """Exposure, soft scatter, grain."""
    size = len(picture)
    scatter = image.field(size, 3) * (8 * GREY) // WHOLE
    exposed = (picture + scatter) * image.between(880, 1120) // 1000
    grain = image.bell(size, size)
    grain = (grain + blur(grain, 1) * 2) * (GREY * (4 + difficulty * 4 // 1000)) // 148
    return to_grey(exposed + grain)
