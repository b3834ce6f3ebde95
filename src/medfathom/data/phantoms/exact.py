"""Random numbers, shapes and filters whose every bit is the same on any machine.

Only the raw words of PCG64 (whose stream numpy guarantees) and integer arithmetic: no libm, no BLAS, no
floating-point sum whose order depends on the processor. Intensities are in 1/16 grey level, positions in 1/64
pixel, shares (masks, contrasts) in 1/1024, unless a name says otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

GREY = 16
"""Intensity steps in one grey level."""

PIXEL = 64
"""Position steps in one pixel."""

WHOLE = 1024
"""Steps in a share of 1: a mask's full cover."""

BELL_SPREAD = 148
"""Standard deviation of `Dice.bell`: sqrt(4 (256^2 - 1) / 12), rounded."""


class Dice:
    """A seeded stream of integers. The same key gives the same numbers on any machine."""

    def __init__(self, *key: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence(key))

    def bytes(self, *shape: int) -> Ints:
        """Uniform integers from 0 to 255."""
        n = int(np.prod(shape, dtype=np.int64))
        words = self._bits.random_raw(-(-n // 8)).astype("<u8")
        return words.view(np.uint8)[:n].astype(np.int64).reshape(shape)

    def between(self, low: int, high: int) -> int:
        """A uniform integer from low to high, both included."""
        word = int(self._bits.random_raw()) >> 32
        return low + (word * (high - low + 1) >> 32)

    def bell(self, *shape: int) -> Ints:
        """Nearly normal integers: four bytes summed, mean 0, standard deviation BELL_SPREAD."""
        total: Ints = self.bytes(4, *shape).sum(axis=0)
        return total - 510

    def curve(self, n: int, amplitude: int) -> Ints:
        """A smooth random curve of n values within +-amplitude (a quadratic B-spline of six random knots)."""
        knots = self.bytes(6) - 128
        at = np.arange(n, dtype=np.int64) * (4 * 256 - 1) // max(n - 1, 1)
        left, part = at >> 8, at & 255
        weights = ((256 - part) ** 2, 65536 + 2 * part * (256 - part), part**2)
        total = sum((weight * knots[left + k] for k, weight in enumerate(weights)), np.zeros_like(at))
        scaled: Ints = total * amplitude // (128 * 131072)
        return scaled

    def field(self, size: int, cells: int) -> Ints:
        """A smooth random image within +-1024: random values on a coarse grid, joined linearly."""
        grid = (self.bytes(cells + 1, cells + 1) - 128) * 8
        at = (np.arange(size, dtype=np.int64) * 2 + 1) * cells * 128 // size
        left, part = at >> 8, at & 255
        rows = grid[left] * (256 - part)[:, None] + grid[left + 1] * part[:, None]
        joined: Ints = (rows[:, left] * (256 - part) + rows[:, left + 1] * part) >> 16
        return joined


def grid(size: int) -> tuple[Ints, Ints, int]:
    """Pixel centres as (x (1, size), y (size, 1)), and the side of the image: all in 1/64 pixel."""
    at = np.arange(size, dtype=np.int64) * PIXEL + PIXEL // 2
    return at[None, :], at[:, None], size * PIXEL


def ellipse(x: Ints, y: Ints, centre: tuple[int, int], radii: tuple[int, int]) -> Ints:
    """1024 at the centre, falling as a paraboloid to 0 at the rim and beyond."""
    across = (x - centre[0]) ** 2 * WHOLE // max(radii[0] ** 2, 1)
    down = (y - centre[1]) ** 2 * WHOLE // max(radii[1] ** 2, 1)
    inside: Ints = np.maximum(WHOLE - across - down, 0)
    return inside


def dome(distance: Ints, radius: int) -> Ints:
    """1024 at distance 0, falling as a parabola to 0 at the radius and beyond."""
    return np.maximum(WHOLE - distance**2 * WHOLE // max(radius**2, 1), 0)


def soft(mask: Ints, gain: int) -> Ints:
    """A mask with a steeper rim: multiplied, and cut off at full cover."""
    return np.minimum(mask * gain, WHOLE)


def mix(image: Ints, value: int | Ints, cover: Ints) -> Ints:
    """The image, replaced by the value where covered."""
    return image + (value - image) * cover // WHOLE


def blur(image: Ints, radius: int) -> Ints:
    """Mean over windows of 2 radius + 1 pixels, down then across; edges repeat."""
    width = 2 * radius + 1
    for axis in (0, 1):
        pad = [(radius + 1, radius) if a == axis else (0, 0) for a in (0, 1)]
        sums = np.cumsum(np.pad(image, pad, mode="edge"), axis=axis)
        n = image.shape[axis]
        image = (np.take(sums, range(width, width + n), axis) - np.take(sums, range(n), axis)) // width
    return image


def steps(at: Sequence[int], values: Sequence[int], start: int, stop: int) -> Ints:
    """The piecewise linear function through (at, values), at every integer from start up to stop."""
    x = np.arange(start, stop, dtype=np.int64)
    left = np.clip(np.searchsorted(at, x, side="right") - 1, 0, len(at) - 2)
    x0, x1 = np.take(at, left), np.take(at, left + 1)
    y0, y1 = np.take(values, left), np.take(values, left + 1)
    line: Ints = y0 + (y1 - y0) * np.clip(x - x0, 0, x1 - x0) // (x1 - x0)
    return line


def to_grey(image: Ints) -> NDArray[np.uint8]:
    """Intensities -> uint8."""
    return np.clip(image // GREY, 0, 255).astype(np.uint8)
