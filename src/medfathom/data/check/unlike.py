"""Images that are not like the others: another view, another device, a photograph, a mistake.

By the size and shape of the originals, and by how they look to a pretrained network (`Look`; networks stand
above this package). An image looks unlike the others where it is far from its nearest images, and those are
not far from theirs (the local outlier factor of Breunig et al., SIGMOD 2000, in its simplest form). A fifth
of the images count as near: a few images of another kind, alike among themselves, then do not vouch for one
another.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from medfathom.data.check.all_splits import AllSplits
from medfathom.data.check.findings import Finding, counted, some
from medfathom.data.images import Pixels
from medfathom.errors import WeightsError

CHECK = "unlike the others"

Floats = NDArray[np.float32]

Look = Callable[[Callable[[int], Pixels], list[int], int, Callable[[int], None]], Floats]
"""(gives the image of a row, rows, channels, told how many are done) -> features, (rows, features)."""

UNLIKE = 1.25
"""An original is unlike the others where its width, height or aspect ratio differs from the median by this
factor, and by three interquartile ranges..."""

MOST_UNLIKE = 0.1
"""...and no more than this share of the images does."""

NEAR = 0.2
"""Share of the images that count as near an image."""

LOOKED_AT = 20_000
"""More images are not looked at, but a random choice of so many: a minute of a CPU core."""

COMPARED = 2_000
"""Images that each image is compared with, a random choice."""

FEWEST = 60
"""Among fewer images, what is unlike cannot be told."""

STRANGE = 4.8
"""An image looks unlike the others so many spreads above the median: benchmarks/results/unlike_images.md."""

BLOCK = 1_024


def by_size(splits: AllSplits) -> list[Finding]:
    """Few originals whose size or shape is unlike that of the others."""
    manifest = splits.manifest
    width, height = np.log(np.maximum(manifest.width, 1)), np.log(np.maximum(manifest.height, 1))
    columns = np.stack([width, height, width - height])
    low, median, high = np.quantile(columns, [0.25, 0.5, 0.75], axis=1)
    allowed = np.maximum(np.log(UNLIKE), 3 * (high - low))
    rows = np.flatnonzero((np.abs(columns - median[:, None]) > allowed[:, None]).any(axis=0)).tolist()
    if not rows or len(rows) > MOST_UNLIKE * len(manifest):
        return []
    examples = some([f"{manifest.name[row]} {manifest.width[row]}x{manifest.height[row]}" for row in rows])
    usual = f"{np.median(manifest.width):.0f}x{np.median(manifest.height):.0f}"
    message = f"{counted(len(rows), 'image')} of another size or shape than the others ({usual}): {examples}"
    return [Finding("warning", CHECK, message, [splits.describe(row) for row in rows])]


def by_look(
    splits: AllSplits, look: Look | None, seed: int, tell: Callable[[str, int, int], None]
) -> list[Finding]:
    """Few images that look unlike the others, the strangest first; and what was not looked at.

    Args:
        splits: all images; constant ones are passed over.
        look: gives features; None: nothing is looked for.
        seed: of the random choices.
        tell: progress, as for `check_data`.
    """
    every = np.flatnonzero(splits.manifest.constant == 0)
    if look is None or len(every) < FEWEST:
        return []
    random = np.random.default_rng(seed)
    rows = np.sort(random.permutation(every)[:LOOKED_AT])
    try:
        features = look(
            splits.image, rows.tolist(), splits.data.channels, lambda done: tell("look", done, len(rows))
        )
    except WeightsError as error:
        return [Finding("note", CHECK, f"not searched by features of a pretrained network: {error}")]
    strange = strangeness(features, random)
    found = [int(rows[place]) for place in np.argsort(-strange) if strange[place] > STRANGE]
    findings = []
    if found and len(found) <= MOST_UNLIKE * len(rows):
        names = some([str(splits.manifest.name[row]) for row in found])
        look_unlike = "image looks" if len(found) == 1 else "images look"
        message = f"{len(found)} {look_unlike} unlike the others: {names}"
        findings.append(Finding("warning", CHECK, message, [splits.describe(row) for row in found]))
    if len(rows) < len(every):
        message = (
            f"{len(rows):,} of {len(every):,} images, chosen at random, were compared by their appearance"
        )
        findings.append(Finding("note", CHECK, message))
    return findings


def strangeness(features: Floats, random: np.random.Generator) -> NDArray[np.float64]:
    """How far each image is from its nearest ones, relative to how far those are from theirs, (n,).

    On a logarithmic scale, in spreads above the median (84 % of the images lie below 1).
    """
    among = np.sort(random.permutation(len(features))[:COMPARED])
    nearest = round(NEAR * len(among))
    distances = np.concatenate(
        [
            _distances(features[start : start + BLOCK], features[among])
            for start in range(0, len(features), BLOCK)
        ]
    )
    distances[among, np.arange(len(among))] = np.inf
    near = np.argpartition(distances, nearest - 1, axis=1)[:, :nearest]
    reach = np.take_along_axis(distances, near, axis=1).max(axis=1)
    usual = np.median(reach[among][near], axis=1)
    ratio = np.log(np.maximum(reach, 1e-6)) - np.log(np.maximum(usual, 1e-6))
    median, high = np.quantile(ratio, [0.5, 0.84])
    return np.asarray((ratio - median) / max(float(high - median), 1e-6), dtype=np.float64)


def _distances(some_features: Floats, others: Floats) -> Floats:
    squares = (some_features**2).sum(axis=1)[:, None] + (others**2).sum(axis=1)[None]
    distances: Floats = np.sqrt(np.maximum(squares - 2 * some_features @ others.T, 0))
    return distances
