"""Copies of images and groups in two splits: what makes a validation or test AUC too good.

Exact copies have the same file, or the same pixels once prepared. Near copies (saved again, brighter,
resized, cropped, turned, mirrored) are found in two steps:

1. Candidates: each image's nearest neighbours by a small embedding, the 16 x 16 thumbnail between two scales.
   Exhaustive, so nothing is missed by an index; in all eight orientations of the square.
2. Each candidate is registered, and its details compared: `registration.similarity`.

Why neither a perceptual hash nor a network's embedding alone: both say how alike two images look, and
medical images of one kind all look alike (half of all chest X-rays are within a few bits of another's
hash). Shared detail is what tells a copy from a similar patient. What is too similar is measured on the
data set itself: most images have no copy, so the similarity of the typical nearest neighbour says where
copies begin.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medfathom.data.images import Pixels
from medfathom.data.manifest import Manifest
from medfathom.data.registration import Floats, band, similarity, unit

THUMBNAIL = 64
"""Side of the images that are registered, pixels."""

EMBEDDING = 16
"""Side of the embedding, pixels."""

NEIGHBOURS = 3
"""Candidates for each image."""

LEAST_LIKE = 0.35
"""Correlation of embeddings below which two images are no candidates."""

COPY_RANGE = (0.6, 0.9)
"""Details of copies correlate at least like the first; what correlates like the second is a copy anywhere."""

SPREADS = 4.0
"""How many spreads (of the lower half) above the typical neighbour a copy begins."""

BATCH = 32
"""Pairs registered at once."""

BLOCK = 256
"""Images compared with all others at once."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class NearCopy:
    """Two images whose details agree: rows of the manifest, first < second; similarity in [0, 1]."""

    first: int
    second: int
    similarity: float


@dataclass(frozen=True)
class NearCopies:
    """What the search found, and where it drew the line."""

    pairs: list[NearCopy]
    threshold: float
    typical: float
    """Similarity of the median image to its most similar one."""


def exact_copies(manifest: Manifest) -> list[list[int]]:
    """Sets of two rows or more with the same file or the same prepared pixels, each rising."""
    sets = _Sets(len(manifest))
    for column in (manifest.sha256, manifest.pixels_sha256):
        first: dict[str, int] = {}
        for row, digest in enumerate(column.tolist()):
            sets.join(first.setdefault(digest, row), row)
    return [members for members in sets.members() if len(members) > 1]


def groups_across(groups: NDArray[Any], splits: NDArray[Any]) -> dict[str, dict[str, int]]:
    """Group -> split -> images, of groups that are in more than one split. Unknown groups ("") are none."""
    found: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for group, split in zip(groups.tolist(), splits.tolist(), strict=True):
        if group:
            found[group][split] += 1
    return {group: dict(counts) for group, counts in found.items() if len(counts) > 1}


def near_copies(images: Sequence[Pixels], progress: Progress | None = None) -> NearCopies:
    """Pairs of images that are copies of one another, though not to the bit.

    Args:
        images: prepared images, without exact copies of one another (they would hide others).
        progress: called with the pairs compared and their number.
    """
    thumbnails = np.stack([thumbnail(image) for image in images])
    pairs = list(_candidates(_embeddings(thumbnails)))
    chunks = [pairs[start : start + BATCH] for start in range(0, len(pairs), BATCH)]
    found: list[NearCopy] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for compared in pool.map(partial(_compared, thumbnails), chunks):
            found += compared
            if progress is not None:
                progress(len(found), len(pairs))
    typical, threshold = _threshold(found, len(images))
    best: dict[tuple[int, int], float] = {}
    for pair in found:
        if pair.similarity >= threshold:
            key = (min(pair.first, pair.second), max(pair.first, pair.second))
            best[key] = max(best.get(key, 0.0), pair.similarity)
    copies = [NearCopy(a, b, min(score, 1.0)) for (a, b), score in sorted(best.items())]
    return NearCopies(copies, threshold, typical)


def _compared(thumbnails: NDArray[np.uint8], pairs: Sequence[tuple[int, int, int]]) -> list[NearCopy]:
    first = np.stack([_turned(thumbnails[row], turn) for row, _, turn in pairs]).astype(np.float32)
    second = thumbnails[[other for _, other, _ in pairs]].astype(np.float32)
    scores = similarity(first, second).tolist()
    return [NearCopy(row, other, score) for (row, other, _), score in zip(pairs, scores, strict=True)]


def thumbnail(image: Pixels) -> NDArray[np.uint8]:
    """Grey, THUMBNAIL pixels square, 8 bits."""
    grey = image.mean(axis=2)
    scaled: NDArray[np.uint8] = np.rint(grey / 257.0 if image.dtype == np.uint16 else grey).astype(np.uint8)
    if scaled.shape != (THUMBNAIL, THUMBNAIL):
        resized = Image.fromarray(scaled).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BILINEAR)
        scaled = np.asarray(resized)
    return scaled


def _embeddings(thumbnails: NDArray[np.uint8]) -> Floats:
    """Unit vectors, (n, EMBEDDING^2); flat images have none (zeros)."""
    n, step = len(thumbnails), THUMBNAIL // EMBEDDING
    small = thumbnails.reshape(n, EMBEDDING, step, EMBEDDING, step).mean(axis=(2, 4), dtype=np.float32)
    return unit(band(small, 0.5, 3.0).reshape(n, -1))


def _candidates(embeddings: Floats) -> Iterator[tuple[int, int, int]]:
    """(row, other row, turn of the row): each image's nearest neighbours, each pair once."""
    n = len(embeddings)
    squares = embeddings.reshape(n, EMBEDDING, EMBEDDING)
    seen: set[tuple[int, int, int]] = set()
    for start in range(0, n, BLOCK):
        stop = min(start + BLOCK, n)
        likeness = np.empty((stop - start, TURNS, n), dtype=np.float32)
        for turn in range(TURNS):
            block = np.stack([_turned(square, turn) for square in squares[start:stop]]).reshape(
                stop - start, -1
            )
            np.matmul(block, embeddings.T, out=likeness[:, turn])
        likeness[np.arange(stop - start), :, np.arange(start, stop)] = -1.0
        flat = likeness.reshape(stop - start, -1)
        k = min(NEIGHBOURS, flat.shape[1] - 1)
        for index, best in enumerate(np.argpartition(flat, -k, axis=1)[:, -k:]):
            for position in best[flat[index, best] >= LEAST_LIKE].tolist():
                turn, other = divmod(position, n)
                pair = _ordered(start + index, other, turn)
                if pair not in seen:
                    seen.add(pair)
                    yield pair


TURNS = 8
"""Orientations of a square: bit 0 transposes, then bit 1 flips up-down, then bit 2 left-right."""

_INVERSE = (0, 1, 2, 5, 4, 3, 6, 7)
"""The turn that undoes each turn."""


def _turned(image: NDArray[Any], turn: int) -> NDArray[Any]:
    image = image.T if turn & 1 else image
    image = image[::-1] if turn & 2 else image
    return image[:, ::-1] if turn & 4 else image


def _ordered(row: int, other: int, turn: int) -> tuple[int, int, int]:
    """The same pair from its lower row: turning one image is turning the other back."""
    return (row, other, turn) if row < other else (other, row, _INVERSE[turn])


def _threshold(pairs: Sequence[NearCopy], n: int) -> tuple[float, float]:
    """The typical image's similarity to its most similar one, and where copies begin."""
    best = np.zeros(n)
    for pair in pairs:
        best[pair.first] = max(best[pair.first], pair.similarity)
        best[pair.second] = max(best[pair.second], pair.similarity)
    # From the lower half: copies, however many (up to half of the images), do not widen it.
    low, median = np.quantile(best, [0.16, 0.5])
    return float(median), float(np.clip(median + SPREADS * (median - low), *COPY_RANGE))


class _Sets:
    """Disjoint sets of rows."""

    def __init__(self, n: int) -> None:
        self._parent = list(range(n))

    def join(self, first: int, second: int) -> None:
        """Make two rows' sets one."""
        self._parent[self._root(second)] = self._root(first)

    def members(self) -> list[list[int]]:
        """All sets, rows rising."""
        found: dict[int, list[int]] = defaultdict(list)
        for row in range(len(self._parent)):
            found[self._root(row)].append(row)
        return list(found.values())

    def _root(self, row: int) -> int:
        while self._parent[row] != row:
            self._parent[row] = self._parent[self._parent[row]]
            row = self._parent[row]
        return row
