"""Candidates for near copies: nearest neighbours by two small embeddings of thumbnails.

The *look*: the 16 x 16 thumbnail between two scales, in all eight orientations of the square. The
*spectrum*: the strength of each frequency, which a shift does not change, and a small turn or crop hardly
changes. Every image is compared with every other, since an index could miss some: n^2 * 2,400
multiplications.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import fft2

from medfathom.data.check.registration import Floats, band, unit
from medfathom.data.images import Pixels

Pixel = TypeVar("Pixel", bound=np.generic)

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
"""Least correlation of the embeddings of a candidate."""

BLOCK = 256
"""Images compared at once..."""

OTHERS = 4096
"""...with so many others: 32 MiB of likenesses in eight orientations, and twice that to find the best."""

TURNS = 8
"""Orientations of a square: bit 0 transposes, then bit 1 flips up-down, then bit 2 left-right."""

_INVERSE = (0, 1, 2, 5, 4, 3, 6, 7)
"""The turn that undoes each turn."""


def thumbnail(image: Pixels) -> NDArray[np.uint8]:
    """Grey, THUMBNAIL pixels square, 8 bits."""
    scaled = grey(image)
    if scaled.shape != (THUMBNAIL, THUMBNAIL):
        resized = Image.fromarray(scaled).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BILINEAR)
        scaled = np.asarray(resized)
    return scaled


def grey(image: Pixels) -> NDArray[np.uint8]:
    """The mean of the channels, 8 bits, (h, w)."""
    total = image[:, :, 0].astype(np.uint32)
    for channel in range(1, image.shape[2]):  # a mean over the last axis takes ten times as long
        total += image[:, :, channel]
    mean = total / image.shape[2]
    scaled: NDArray[np.uint8] = np.rint(mean / 257.0 if image.dtype == np.uint16 else mean).astype(np.uint8)
    return scaled


def turned(image: NDArray[Pixel], turn: int) -> NDArray[Pixel]:
    """The image in one of its eight orientations."""
    image = image.T if turn & 1 else image
    image = image[::-1] if turn & 2 else image
    return image[:, ::-1] if turn & 4 else image


def candidates(thumbnails: NDArray[np.uint8], cases: NDArray[np.str_] | None = None) -> list[Candidate]:
    """Each image's nearest neighbours, each pair once, in order.

    Args:
        thumbnails: of the images.
        cases: the case of each, "" for none. Images of one case are no candidates: neighbouring slices of a
            volume are alike by nature, and would hide a copy in another volume.
    """
    own = np.arange(len(thumbnails))
    if cases is not None:
        names = np.where(cases == "", own.astype(np.str_), np.char.add("case ", cases))
        own = np.unique(names, return_inverse=True)[1].reshape(-1)
    found = {
        *_nearest(looks(thumbnails), own, orientations),
        *_nearest(_spectra(thumbnails), own, lambda spectra: [spectra]),
    }
    return sorted(found)


def looks(thumbnails: NDArray[np.uint8]) -> Floats:
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


def orientations(looks: Floats) -> list[Floats]:
    """The looks in each orientation."""
    squares = looks.reshape(-1, LOOK, LOOK)
    return [np.stack([turned(s, turn) for s in squares]).reshape(looks.shape) for turn in range(TURNS)]


def _nearest(
    embeddings: Floats, own: NDArray[np.intp], turns_of: Callable[[Floats], list[Floats]]
) -> Iterator[Candidate]:
    """Neighbours of each image among those of another number in `own`.

    `turns_of` gives embeddings in each orientation.
    """
    n = len(embeddings)
    for start in range(0, n, BLOCK):
        turns = turns_of(embeddings[start : start + BLOCK])
        parts = [_best(turns, start, embeddings, own, first) for first in range(0, n, OTHERS)]
        likeness, turn, other = (np.concatenate(each, axis=1) for each in zip(*parts, strict=True))
        best = _largest(likeness)
        for row, columns in enumerate(best.tolist()):
            for column in columns:
                if likeness[row, column] >= LEAST_LIKE:
                    yield _ordered(start + row, int(other[row, column]), int(turn[row, column]))


def _best(
    turns: list[Floats], start: int, embeddings: Floats, own: NDArray[np.intp], first: int
) -> tuple[Floats, NDArray[np.intp], NDArray[np.intp]]:
    """The likest of some others: likeness, turn and row, each (images, NEIGHBOURS).

    `start` is the first image's row, `first` that of the first of the others.
    """
    others = embeddings[first : first + OTHERS]
    likeness = np.stack([turn @ others.T for turn in turns], axis=1)
    rows = np.arange(start, start + len(likeness))
    same = own[rows][:, None] == own[first : first + len(others)]
    likeness[np.broadcast_to(same[:, None, :], likeness.shape)] = -1.0
    flat = likeness.reshape(len(rows), -1)
    best = _largest(flat)
    turn, other = np.divmod(best, len(others))
    return np.take_along_axis(flat, best, axis=1), turn, first + other


def _largest(values: Floats) -> NDArray[np.intp]:
    """Columns of the NEIGHBOURS largest values of each row."""
    k = min(NEIGHBOURS, values.shape[1])
    return np.argpartition(values, -k, axis=1)[:, -k:]


def _ordered(row: int, other: int, turn: int) -> Candidate:
    """The same pair from its lower row: turning one image is turning the other back."""
    return (row, other, turn) if row < other else (other, row, _INVERSE[turn])
