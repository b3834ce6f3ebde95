"""Near copies: images that were saved again, made brighter, blurred, shifted, cropped, turned or mirrored.

They are found in two steps. Candidates are each image's nearest neighbours by two small embeddings
(`neighbours`). Each candidate is registered, and its details are compared (`registration`).
`medfathom.data.leakage` finds exact copies.

Why not a perceptual hash: medical images of one kind look alike without being copies. Of 3,000 distinct
images of PneumoniaMNIST, one in ten has another within 6 bits of its 64-bit hash; but turning an image by
2 degrees changes 6 bits of its hash, and cropping 2 % changes 12. A network's embedding has the same problem:
it is trained to make such images alike. A copy differs from a similar patient in shared detail, once one
image lies on the other. The threshold is measured on the data set itself: an image has at most a few copies,
so the typical similarity to the second most similar image shows how alike images are that are no copies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from medfathom.data.check.neighbours import Candidate, candidates, thumbnail, turned
from medfathom.data.check.registration import similarity
from medfathom.data.images import Pixels
from medfathom.machine import cpus

COPY_RANGE = (0.82, 0.93)
"""The threshold lies in this range: below it no pair is a copy, above it every pair is, in any data set."""

SPREADS = 3.5
"""The threshold lies this many spreads (of the lower half) above the typical similarity."""

SMALL = 40
"""Images with a side up to this are compared by coarser details too, pixels."""

BATCH = 32
"""Pairs registered at once."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class NearCopy:
    """Two images whose details agree.

    Attributes:
        first, second: their rows in the manifest, first < second.
        similarity: correlation of their details, in [0, 1].
    """

    first: int
    second: int
    similarity: float


@dataclass(frozen=True)
class NearCopies:
    """What the search found.

    Attributes:
        pairs: the near copies.
        threshold: least similarity of a near copy.
        typical: similarity of the median image to its second most similar one.
    """

    pairs: list[NearCopy]
    threshold: float
    typical: float


def near_copies(
    images: Iterable[Pixels], progress: Progress | None = None, cases: NDArray[np.str_] | None = None
) -> NearCopies:
    """Pairs of images that are nearly, but not exactly, the same.

    Args:
        images: prepared images, at least one, without exact copies of one another (they would hide others).
        progress: called with the number of pairs compared and of all.
        cases: the case of each image, "" for none; images of one case are not compared.
    """
    read = [(thumbnail(image), min(image.shape[:2])) for image in images]
    thumbnails = np.stack([each for each, _ in read])
    small = read[0][1] <= SMALL
    pairs = candidates(thumbnails, cases)
    chunks = [pairs[start : start + BATCH] for start in range(0, len(pairs), BATCH)]
    found: list[NearCopy] = []
    with ThreadPoolExecutor(cpus()) as pool:
        for compared in pool.map(partial(_compared, thumbnails, small=small), chunks):
            found += compared
            if progress is not None:
                progress(len(found), len(pairs))
    typical, threshold = copy_threshold(found, len(thumbnails))
    best: dict[tuple[int, int], float] = {}
    for pair in found:
        if pair.similarity >= threshold:
            key = (min(pair.first, pair.second), max(pair.first, pair.second))
            best[key] = max(best.get(key, 0.0), pair.similarity)
    copies = [NearCopy(a, b, min(score, 1.0)) for (a, b), score in sorted(best.items())]
    return NearCopies(copies, threshold, typical)


def _compared(thumbnails: NDArray[np.uint8], pairs: Sequence[Candidate], *, small: bool) -> list[NearCopy]:
    first = np.stack([turned(thumbnails[row], turn) for row, _, turn in pairs]).astype(np.float32)
    second = thumbnails[[other for _, other, _ in pairs]].astype(np.float32)
    scores = similarity(first, second, small=small).tolist()
    return [NearCopy(row, other, score) for (row, other, _), score in zip(pairs, scores, strict=True)]


def copy_threshold(pairs: Sequence[NearCopy], n: int) -> tuple[float, float]:
    """Typical similarity of n images to the second most similar one, and the least similarity of a copy."""
    scores: list[dict[int, float]] = [{} for _ in range(n)]
    for pair in pairs:
        for row, other in ((pair.first, pair.second), (pair.second, pair.first)):
            scores[row][other] = max(scores[row].get(other, -1.0), pair.similarity)
    second = [sorted(found.values())[-2] for found in scores if len(found) > 1]
    if not second:
        return 0.0, COPY_RANGE[1]
    # The spread of the lower half: copies, however many, are in the upper half.
    low, median = np.quantile(second, [0.16, 0.5])
    return float(median), float(np.clip(median + SPREADS * (median - low), *COPY_RANGE))
