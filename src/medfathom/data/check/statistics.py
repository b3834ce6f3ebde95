"""Numbers that describe a split: classes, sizes of the originals, intensities of the prepared images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medfathom.data.manifest import Manifest
from medfathom.data.prepared import PreparedData, Split
from medfathom.metrics.unknown import is_absent, is_present

BLANK_SPREAD = 0.01
"""An image whose standard deviation is below this (of the full range) is nearly blank."""

BLOCK = 256
"""Images read at once, at most."""

BLOCK_VALUES = 2**23
"""Pixels (times channels) read at once, where images are large: 64 MiB once they are float64."""


@dataclass(frozen=True)
class Sizes:
    """Smallest, median and largest side (pixels) and file size (bytes, 0 where there are no files)."""

    width: tuple[float, float, float]
    height: tuple[float, float, float]
    n_bytes: tuple[float, float, float]


@dataclass(frozen=True)
class Intensities:
    """Intensities of all pixels, as shares of the full range (0 black, 1 white)."""

    mean: float
    std: float
    percentile_1: float
    median: float
    percentile_99: float
    black: float
    """Share of pixels that are 0."""
    white: float
    """Share of pixels at the top of the range."""
    spread_of_means: float
    """Standard deviation of the images' means."""


@dataclass(frozen=True)
class SplitStatistics:
    """One split in numbers. `classes`: images of each class; cases, where the data set has cases."""

    split: str
    n_images: int
    classes: dict[str, int]
    known: dict[str, int]
    """Images of which it is known whether they are of the class."""
    n_groups: int | None
    n_cases: int | None
    sizes: Sizes
    intensities: Intensities

    @property
    def n_units(self) -> int:
        """What `classes` counts: cases, or images."""
        return self.n_images if self.n_cases is None else self.n_cases

    @property
    def counted(self) -> str:
        """The word for it."""
        return "images" if self.n_cases is None else "cases"


def split_statistics(name: str, split: Split, manifest: Manifest, data: PreparedData) -> SplitStatistics:
    """Describe a split; `manifest` has its rows only."""
    labels = split.units.labels
    columns = labels if labels.ndim == 2 else labels[:, None] == np.arange(len(data.class_names))
    counts = is_present(columns).sum(axis=0)
    known = counts + is_absent(columns).sum(axis=0)
    return SplitStatistics(
        split=name,
        n_images=len(split),
        classes={c: int(n) for c, n in zip(data.class_names, counts, strict=True)},
        known={c: int(n) for c, n in zip(data.class_names, known, strict=True)},
        n_groups=None if split.groups is None else len(np.unique(split.groups)),
        n_cases=None if split.cases is None else len(split.units),
        sizes=Sizes(*(_three(getattr(manifest, column)) for column in ("width", "height", "n_bytes"))),
        intensities=_intensities(split),
    )


def blank_images(split: Split) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of constant images, and rows of other images that are nearly blank."""
    spread = np.concatenate([block.std(axis=1) for block in _blocks(split)])
    constant = spread == 0
    return np.flatnonzero(constant), np.flatnonzero((spread < BLANK_SPREAD) & ~constant)


def _three(values: NDArray[np.int64]) -> tuple[float, float, float]:
    return float(values.min()), float(np.median(values)), float(values.max())


def _blocks(split: Split) -> Iterator[NDArray[np.float64]]:
    """Blocks of images as shares of the full range, (images, pixels)."""
    top = np.iinfo(split.images.dtype).max
    rows = max(1, min(BLOCK, BLOCK_VALUES // int(np.prod(split.images.shape[1:]))))
    for start in range(0, len(split), rows):
        block = split.images[start : start + rows]
        yield block.reshape(len(block), -1) / top


def _intensities(split: Split) -> Intensities:
    """Moments exactly; percentiles from a histogram of 1,024 bins."""
    histogram = np.zeros(1024, dtype=np.int64)
    means: list[NDArray[np.float64]] = []
    squares = black = white = 0.0
    for block in _blocks(split):
        histogram += np.histogram(block, bins=1024, range=(0.0, 1.0))[0]
        means.append(block.mean(axis=1))
        squares += float(np.square(block).sum())
        black += float((block == 0).sum())
        white += float((block == 1).sum())
    n_pixels = int(histogram.sum())
    mean_of_images = np.concatenate(means)
    mean = float(mean_of_images.mean())
    low, middle, high = (_percentile(histogram, share) for share in (0.01, 0.5, 0.99))
    return Intensities(
        mean=mean,
        std=float(np.sqrt(max(squares / n_pixels - mean**2, 0.0))),
        percentile_1=low,
        median=middle,
        percentile_99=high,
        black=black / n_pixels,
        white=white / n_pixels,
        spread_of_means=float(mean_of_images.std()),
    )


def _percentile(histogram: NDArray[np.int64], share: float) -> float:
    """Lower edge of the bin that holds this share of the pixels."""
    return float(np.searchsorted(np.cumsum(histogram), share * histogram.sum()) / len(histogram))
