"""Near copies of images: saved again, brighter, blurred, shifted, cropped, turned, mirrored.

They are found in two steps: candidates are each image's nearest neighbours by two small embeddings
(`neighbours`); each candidate is registered, and its details compared (`registration`).
`medfathom.data.leakage` has exact copies.

Why not a perceptual hash: medical images of one kind look alike without being copies. Of 3,000 distinct
images of PneumoniaMNIST, one in ten has another within 6 bits of its 64-bit hash, while turning an image by
2 degrees moves its own by 6 bits, cropping 2 % by 12. A network's embedding has the same trouble: it is
made to call them alike. Shared detail, once one lies on the other, is what tells a copy from a similar
patient. How much is too much is measured on the data set itself: an image has one copy, or few, so how
alike images and their second most similar ones typically are says where copies begin.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from medfathom.data.check.neighbours import Candidate, candidates, thumbnail, turned
from medfathom.data.check.registration import similarity
from medfathom.data.images import Pixels

COPY_RANGE = (0.6, 0.92)
"""Details of copies agree at least to the first; what agrees to the second is a copy in any data set."""

SPREADS = 2.5
"""How many spreads (of the lower half) above the typical second neighbour a copy begins."""

BATCH = 32
"""Pairs registered at once."""

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
    """Similarity of the median image to its second most similar one."""


def near_copies(images: Sequence[Pixels], progress: Progress | None = None) -> NearCopies:
    """Pairs of images that are copies of one another, though not to the bit.

    Args:
        images: prepared images, without exact copies of one another (they would hide others).
        progress: called with the pairs compared and their number.
    """
    thumbnails = np.stack([thumbnail(image) for image in images])
    pairs = candidates(thumbnails)
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


def _compared(thumbnails: NDArray[np.uint8], pairs: Sequence[Candidate]) -> list[NearCopy]:
    first = np.stack([turned(thumbnails[row], turn) for row, _, turn in pairs]).astype(np.float32)
    second = thumbnails[[other for _, other, _ in pairs]].astype(np.float32)
    scores = similarity(first, second).tolist()
    return [NearCopy(row, other, score) for (row, other, _), score in zip(pairs, scores, strict=True)]


def _threshold(pairs: Sequence[NearCopy], n: int) -> tuple[float, float]:
    """How alike the typical image and its second most similar one are, and where copies begin."""
    scores: list[dict[int, float]] = [{} for _ in range(n)]
    for pair in pairs:
        for row, other in ((pair.first, pair.second), (pair.second, pair.first)):
            scores[row][other] = max(scores[row].get(other, -1.0), pair.similarity)
    second = [sorted(found.values())[-2] for found in scores if len(found) > 1]
    if not second:
        return 0.0, COPY_RANGE[1]
    # From the lower half, which copies, however many, do not widen.
    low, median = np.quantile(second, [0.16, 0.5])
    return float(median), float(np.clip(median + SPREADS * (median - low), *COPY_RANGE))
