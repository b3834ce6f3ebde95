"""Which images might be copies of which: nearest neighbours by two small embeddings of thumbnails.

The *look*: the 16 x 16 thumbnail between two scales, in all eight orientations of the square. The
*spectrum*: how strong each frequency is, which a shift does not change, and a small turn or crop hardly.
Every image is compared with every other, so that nothing is missed by an index: n^2 * 2,400
multiplications.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import fft2

from medfathom.data.images import Pixels
from medfathom.data.registration import Floats, band, unit

Candidate = tuple[int, int, int]
"""(row, other row, turn): row < other; `turned(image[row], turn)` may be a copy of `image[other]`."""

THUMBNAIL = 64
"""Side of a thumbnail, pixels."""

LOOK = 16
"""Side of the look, pixels."""

FREQUENCIES = 12
"""Of the spectrum, in each direction: 0 to 11 cycles across the image."""

NEIGHBOURS = 2
"""Nearest neighbours of each image by each embedding."""

LEAST_LIKE = 0.3
"""Correlation of embeddings below which two images are no candidates."""

BLOCK = 256
"""Images compared with all others at once."""

TURNS = 8
"""Orientations of a square: bit 0 transposes, then bit 1 flips up-down, then bit 2 left-right."""

_INVERSE = (0, 1, 2, 5, 4, 3, 6, 7)
"""The turn that undoes each turn."""


def thumbnail(image: Pixels) -> NDArray[np.uint8]:
    """Grey, THUMBNAIL pixels square, 8 bits."""
    grey = image.mean(axis=2)
    scaled: NDArray[np.uint8] = np.rint(grey / 257.0 if image.dtype == np.uint16 else grey).astype(np.uint8)
    if scaled.shape != (THUMBNAIL, THUMBNAIL):
        resized = Image.fromarray(scaled).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BILINEAR)
        scaled = np.asarray(resized)
    return scaled


def turned(image: NDArray[np.generic], turn: int) -> NDArray[np.generic]:
    """The image in one of its eight orientations."""
    image = image.T if turn & 1 else image
    image = image[::-1] if turn & 2 else image
    return image[:, ::-1] if turn & 4 else image


def candidates(thumbnails: NDArray[np.uint8]) -> list[Candidate]:
    """Each image's nearest neighbours, each pair once, in order."""
    looks, spectra = _looks(thumbnails), _spectra(thumbnails)
    squares = looks.reshape(-1, LOOK, LOOK)
    turns = [
        np.stack([turned(square, turn) for square in squares]).reshape(looks.shape) for turn in range(TURNS)
    ]
    found = {*_nearest(turns, looks), *_nearest([spectra], spectra)}
    return sorted(found)


def _looks(thumbnails: NDArray[np.uint8]) -> Floats:
    """Unit vectors, (n, LOOK^2); flat images have none (zeros)."""
    n, step = len(thumbnails), THUMBNAIL // LOOK
    small = thumbnails.reshape(n, LOOK, step, LOOK, step).mean(axis=(2, 4), dtype=np.float32)
    return unit(band(small, 0.5, 3.0).reshape(n, -1))


def _spectra(thumbnails: NDArray[np.uint8]) -> Floats:
    """Unit vectors of the log power of low frequencies, relative to the data set's own typical spectrum."""
    window = np.hanning(THUMBNAIL + 2)[1:-1].astype(np.float32)
    parts = [_log_power(thumbnails[i : i + BLOCK], window) for i in range(0, len(thumbnails), BLOCK)]
    power = np.concatenate(parts)
    centred = power - power.mean(axis=0)
    return unit(centred / np.maximum(centred.std(axis=0), 1e-6))


def _log_power(thumbnails: NDArray[np.uint8], window: Floats) -> Floats:
    k = FREQUENCIES
    images = band(thumbnails.astype(np.float32), 1.0, 4.0) * window * window[:, None]
    power = np.abs(fft2(images))[:, :, :k]
    power = np.concatenate([power[:, :k], power[:, 1 - k :]], axis=1).reshape(len(images), -1)
    # A tenth of the mean as floor: the logarithm of nothing would outweigh everything.
    floor = np.maximum(power.mean(axis=1, keepdims=True), 1e-3) * 0.1
    logarithm: Floats = np.log(power + floor).astype(np.float32)
    centred: Floats = logarithm - logarithm.mean(axis=1, keepdims=True)
    return centred


def _nearest(turns: list[Floats], embeddings: Floats) -> Iterator[Candidate]:
    """Neighbours of each image among all others; `turns` are its embeddings in each orientation."""
    n = len(embeddings)
    for start in range(0, n, BLOCK):
        block = np.arange(start, min(start + BLOCK, n))
        likeness = np.stack([turn[block] @ embeddings.T for turn in turns], axis=1)
        likeness[np.arange(len(block)), :, block] = -1.0
        flat = likeness.reshape(len(block), -1)
        k = min(NEIGHBOURS, flat.shape[1])
        for row, best, values in zip(
            block.tolist(), np.argpartition(flat, -k, axis=1)[:, -k:], flat, strict=True
        ):
            for position in best[values[best] >= LEAST_LIKE].tolist():
                turn, other = divmod(position, n)
                yield _ordered(row, other, turn)


def _ordered(row: int, other: int, turn: int) -> Candidate:
    """The same pair from its lower row: turning one image is turning the other back."""
    return (row, other, turn) if row < other else (other, row, _INVERSE[turn])
