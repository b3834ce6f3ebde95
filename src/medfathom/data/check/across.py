"""Copies in two data sets: public collections share images, often cut, squashed or scaled in other ways.

A copy in the other set may show a part of the image, or the image a part of the copy. So every image of one
set is compared with *windows* of every image of the other set, and the other way round:

1. Candidates: the *look* of an image, 12 x 12 numbers between two scales, against that of 676 windows (57 to
   100 % of the width and of the height, at any place). Contrast and brightness do not matter.
2. Both images of a candidate are brought to the resolution of the poorer one, the window is laid on the image
   by an affine registration, and details are compared (`registration`).
3. The threshold is measured on these two sets: see `near_copies`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from itertools import product

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from medfathom.data.check.near_copies import BATCH, NearCopy, copy_threshold
from medfathom.data.check.neighbours import THUMBNAIL, TURNS, grey, thumbnail, turned
from medfathom.data.check.registration import Floats, similarity, unit
from medfathom.data.images import Pixels
from medfathom.machine import cpus

SEES = (
    "This search finds copies that were saved again, have another brightness, contrast or resolution, or "
    "were turned by right angles or mirrored. It finds copies that show 60 % or more of the width and of "
    "the height, squashed or not. It does not find smaller parts, two parts that only overlap, or copies "
    "that are cut and turned, turned by other angles, or inverted (black for white)"
)
"""What the search sees."""

SIDE = 128
"""Images are kept with at most so many pixels a side."""

SCALES = (1.0, 0.9, 0.8, 0.71, 0.63, 0.57)
"""Widths, and heights, of windows, of the whole: steps that the look does not notice."""

STEP = 0.08
"""Between windows of one size, of the whole image."""

LOOK = 12
"""Side of the look, pixels."""

NEIGHBOURS = 6
"""Candidates of an image in the other set."""

LEAST_LIKE = 0.5
"""Least correlation of the looks of a candidate."""

MOST = 2**24
"""Likenesses computed at once."""

Progress = Callable[[int, int], None]
Window = tuple[float, float, float, float]
"""Left, upper, right, lower edge, in [0, 1]."""


@dataclass(frozen=True)
class Candidate:
    """A window of image `other` of one set that may show the image `row` of the other set, turned."""

    row: int
    other: int
    window: Window
    turn: int


@dataclass(frozen=True)
class Across:
    """Near copies in two sets.

    Attributes:
        pairs: `first` is a row of the first set, `second` one of the second.
        threshold, typical: as of `NearCopies`.
    """

    pairs: list[NearCopy]
    threshold: float
    typical: float


def small(images: Iterable[Pixels]) -> list[NDArray[np.uint8]]:
    """Images as this search takes them: grey, 8 bits, at most SIDE pixels a side."""
    return [_at_most(grey(image)) for image in images]


def _at_most(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if max(image.shape) <= SIDE:
        return image
    return np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def near_across(
    first: Sequence[NDArray[np.uint8]], second: Sequence[NDArray[np.uint8]], progress: Progress | None = None
) -> Across:
    """Pairs of near copies in two sets of images, each as `small` gives them; exact ones are among them.

    Args:
        first: images of one set.
        second: of the other.
        progress: called with how much is done, and of how much.
    """
    tell = progress or (lambda done, total: None)
    best: dict[tuple[int, int], float] = {}
    scored: list[NearCopy] = []
    for swapped, (whole, parts) in enumerate(((first, second), (second, first))):
        count = partial(_half_of, tell, swapped)
        for row, other, score in _compared(whole, parts, count):
            pair = (other, row) if swapped else (row, other)
            best[pair] = max(best.get(pair, -1.0), score)
            scored.append(NearCopy(pair[0], len(first) + pair[1], score))
    typical, least = copy_threshold(scored, len(first) + len(second))
    pairs = [NearCopy(a, b, min(score, 1.0)) for (a, b), score in sorted(best.items()) if score >= least]
    return Across(pairs, least, typical)


def _half_of(tell: Progress, half: int, done: int, total: int) -> None:
    tell(half * total + done, 2 * total)


def _compared(
    whole: Sequence[NDArray[np.uint8]], parts: Sequence[NDArray[np.uint8]], tell: Progress
) -> Iterator[tuple[int, int, float]]:
    """Each image of `whole` against windows of `parts`: rows of both, and the similarity."""
    found = _candidates(whole, parts, tell)
    chunks = [found[start : start + BATCH] for start in range(0, len(found), BATCH)]
    with ThreadPoolExecutor(cpus()) as pool:
        for chunk, scores in zip(chunks, pool.map(partial(_scores, whole, parts), chunks), strict=True):
            yield from ((c.row, c.other, score) for c, score in zip(chunk, scores, strict=True))


def _scores(
    whole: Sequence[NDArray[np.uint8]], parts: Sequence[NDArray[np.uint8]], chunk: Sequence[Candidate]
) -> list[float]:
    pairs = [_levelled(turned(whole[c.row], c.turn), parts[c.other], c.window) for c in chunk]
    first, second = (np.stack(side).astype(np.float32) for side in zip(*pairs, strict=True))
    scores: list[float] = similarity(first, second, affine=True).tolist()
    return scores


def _levelled(
    image: NDArray[np.uint8], other: NDArray[np.uint8], window: Window
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """An image, and the window of another, as thumbnails with the resolution of the poorer one."""
    height, width = other.shape
    left, upper, right, lower = window
    box = (left * width, upper * height, right * width, lower * height)
    side = min(THUMBNAIL, *image.shape, round(box[2] - box[0]), round(box[3] - box[1]))
    both = []
    for each, part in ((image, (0.0, 0.0, float(image.shape[1]), float(image.shape[0]))), (other, box)):
        coarse = Image.fromarray(np.ascontiguousarray(each)).resize(
            (side, side), Image.Resampling.BILINEAR, box=part
        )
        both.append(np.asarray(coarse.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BICUBIC)))
    return both[0], both[1]


def _candidates(
    whole: Sequence[NDArray[np.uint8]], parts: Sequence[NDArray[np.uint8]], tell: Progress
) -> list[Candidate]:
    """The likest windows of the likest images of `parts`, for each image of `whole`."""
    looks = _looks(np.stack([_squared(image) for image in whole]), ((0.0, 0.0, 1.0, 1.0),))[:, 0]
    turns = np.stack([_turned(looks, turn) for turn in range(TURNS)])
    frames, kept = windows(), min(NEIGHBOURS, len(parts))
    block = max(1, MOST // (len(whole) * (len(frames) + TURNS)))
    values = np.full((len(whole), 0), -1.0, dtype=np.float32)
    others, views = (np.zeros((len(whole), 0), dtype=np.int64) for _ in range(2))
    for start in range(0, len(parts), block):
        some = np.stack([_squared(image) for image in parts[start : start + block]])
        likeness, view = _likest(turns, _looks(some, frames))
        number = np.broadcast_to(start + np.arange(len(some)), likeness.shape)
        values = np.concatenate([values, likeness], axis=1)
        others, views = np.concatenate([others, number], axis=1), np.concatenate([views, view], axis=1)
        best = np.argpartition(values, -min(kept, values.shape[1]), axis=1)[:, -kept:]
        values = np.take_along_axis(values, best, axis=1)
        others, views = (np.take_along_axis(each, best, axis=1) for each in (others, views))
        tell(start + len(some), len(parts))
    return [
        _candidate(row, int(others[row, k]), int(views[row, k]))
        for row, k in zip(*np.nonzero(values >= LEAST_LIKE), strict=True)
    ]


def _likest(turns: Floats, windowed: Floats) -> tuple[Floats, NDArray[np.intp]]:
    """Of each pair of images the likest view: likeness and number of the view, each (whole, parts).

    Views are the windows, then the whole in its other orientations.
    """
    n, views, _ = windowed.shape
    upright = (turns[0] @ windowed.reshape(n * views, -1).T).reshape(-1, n, views)
    others = (turns[1:] @ windowed[:, 0].T).transpose(1, 2, 0)
    likeness = np.concatenate([upright, others], axis=2)
    best = likeness.argmax(axis=2)
    return np.take_along_axis(likeness, best[:, :, None], axis=2)[:, :, 0], best


def _candidate(row: int, other: int, view: int) -> Candidate:
    frames = windows()
    if view < len(frames):
        return Candidate(row, other, frames[view], 0)
    return Candidate(row, other, frames[0], view - len(frames) + 1)


@cache
def windows() -> tuple[Window, ...]:
    """All windows, the whole image first."""
    spans = [(left, left + scale) for scale in SCALES for left in _places(scale)]
    return tuple((x[0], y[0], x[1], y[1]) for y, x in product(spans, spans))


def _places(scale: float) -> list[float]:
    """Where windows of this size begin: about STEP apart, the first and the last at the edges."""
    steps = int(np.ceil((1 - scale) / STEP))
    return [(1 - scale) * k / steps for k in range(steps + 1)] if steps else [0.0]


def _squared(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return thumbnail(image[:, :, None])


def _looks(thumbnails: NDArray[np.uint8], frames: Sequence[Window]) -> Floats:
    """Unit vectors of windows, (n, windows, LOOK^2); flat ones have none (zeros)."""
    images, shape = thumbnails.astype(np.float32), (len(thumbnails), len(frames), LOOK * LOOK)
    across = {
        span: np.einsum("nhw,lw->nhl", images, _averages(span)) for span in {(f[0], f[2]) for f in frames}
    }
    raw = np.empty(shape, dtype=np.float32)
    for k, (left, upper, right, lower) in enumerate(frames):
        seen = np.matmul(_averages((upper, lower)), across[left, right])
        raw[:, k] = seen.reshape(len(images), -1)
    return unit((raw.reshape(-1, LOOK * LOOK) @ _band()).reshape(-1, LOOK * LOOK)).reshape(shape)


@cache
def _averages(span: tuple[float, float]) -> Floats:
    """Means of the pixels of a thumbnail between two places, (LOOK, THUMBNAIL)."""
    edges = np.linspace(span[0], span[1], LOOK + 1) * THUMBNAIL
    pixels = np.arange(THUMBNAIL)
    upper, lower = np.minimum(edges[1:, None], pixels + 1), np.maximum(edges[:-1, None], pixels)
    weights = np.clip(upper - lower, 0, None)
    means: Floats = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return means


@cache
def _band() -> Floats:
    """The band between two scales as a matrix: pixels of a look times it are what is compared."""
    eye = np.eye(LOOK * LOOK, dtype=np.float32).reshape(-1, LOOK, LOOK)
    found: Floats = gaussian_filter(eye, (0, 0.4, 0.4)) - gaussian_filter(eye, (0, 3, 3))
    return found.reshape(LOOK * LOOK, LOOK * LOOK)


def _turned(looks: Floats, turn: int) -> Floats:
    return np.stack([turned(each, turn) for each in looks.reshape(-1, LOOK, LOOK)]).reshape(looks.shape)
