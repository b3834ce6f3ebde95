"""Random numbers and filters whose every bit is the same on any machine.

Only the raw words of PCG64 (whose stream numpy guarantees) and integer arithmetic: no libm, no BLAS, no
floating-point sum whose order depends on the processor.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Ints = np.ndarray
"""int64 arrays. Intensities are in 1/16 grey level, positions in 1/64 pixel, where a name does not say
otherwise.
"""

GREY = 16
"""Intensity steps in one grey level."""

PIXEL = 64
"""Position steps in one pixel."""


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
        """Nearly normal integers: four bytes summed, mean 0, standard deviation 148."""
        return self.bytes(4, *shape).sum(axis=0) - 510

    def curve(self, n: int, amplitude: int) -> Ints:
        """A smooth random curve of n values within +-amplitude (a quadratic B-spline of six random knots)."""
        knots = self.bytes(6) - 128
        at = np.arange(n, dtype=np.int64) * (4 * 256 - 1) // max(n - 1, 1)
        left, part = at >> 8, at & 255
        weights = ((256 - part) ** 2, 65536 + 2 * part * (256 - part), part**2)
        total = sum(weight * knots[left + k] for k, weight in enumerate(weights))
        return np.asarray(total * amplitude // (128 * 131072))


def blur(image: Ints, radius: int) -> Ints:
    """Mean over windows of 2 radius + 1 pixels, down then across; edges repeat."""
    width = 2 * radius + 1
    for axis in (0, 1):
        pad = [(radius + 1, radius) if a == axis else (0, 0) for a in (0, 1)]
        sums = np.cumsum(np.pad(image, pad, mode="edge"), axis=axis)
        n = image.shape[axis]
        image = (
            np.take(sums, range(width, width + n), axis=axis) - np.take(sums, range(n), axis=axis)
        ) // width
    return image


def dome(squared_distance: Ints, radius: int) -> Ints:
    """1024 at the centre, falling as a parabola to 0 at the radius and beyond."""
    return np.maximum(1024 - squared_distance * 1024 // max(radius * radius, 1), 0)


def to_grey(image: Ints) -> np.ndarray:
    """Intensities -> uint8."""
    return np.clip(image // GREY, 0, 255).astype(np.uint8)


def steps(at: Sequence[int], values: Sequence[int], start: int, stop: int) -> Ints:
    """The piecewise linear function through (at, values), at every integer from start up to stop."""
    x = np.arange(start, stop, dtype=np.int64)
    left = np.clip(np.searchsorted(at, x, side="right") - 1, 0, len(at) - 2)
    x0, x1 = np.take(at, left), np.take(at, left + 1)
    y0, y1 = np.take(values, left), np.take(values, left + 1)
    return np.asarray(y0 + (y1 - y0) * np.clip(x - x0, 0, x1 - x0) // (x1 - x0))
