"""Which copies `data check A B` finds in two data sets, and how many pairs it names that are none.

`python benchmarks/copies_across.py DATA SET N KIND…` (DATA: a folder with octmh_128.npz, histidc_64.npz,
pneumoniamnist.npz) prints a line of benchmarks/results/copies_across.md for each kind of change. Of 2 N
images drawn from a real set, N are one set. The other set are N / 2 of these and N / 2 of the rest, all
changed in the same way: found are pairs of an image and its own changed copy, all other pairs are false.

Kinds are words joined by "+": `same`; `crop` (60 to 95 % of both sides, anywhere), `aspect` (65 to 95 % of
one side, the centre), `both` (60 to 100 % of each side, anywhere), all resized to the whole square;
`contrast` (gamma 0.6 to 1.6, gain 0.7 to 1, offset 0 to 40); `resolution` (28 pixels).
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medfathom.data.check.across import near_across, small

Images = NDArray[np.uint8]


def read(file: Path) -> Images:
    """All images of a set, (n, h, w, c)."""
    with np.load(file) as content:
        images = np.concatenate([content[f"{split}_images"] for split in ("train", "val", "test")])
    return images if images.ndim == 4 else images[..., None]


def changed(image: Images, kind: str, random: np.random.Generator) -> Images:
    """A copy of an image, changed as another publisher would."""
    height, width = image.shape[:2]
    box = _box(kind, random, width, height)
    size = (28, 28) if "resolution" in kind else (width, height)
    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    found = np.asarray(picture.resize(size, Image.Resampling.BICUBIC, box=box)).astype(np.float64)
    if "contrast" in kind:
        found = 255 * (found / 255) ** random.uniform(0.6, 1.6)
        found = found * random.uniform(0.7, 1) + random.uniform(0, 40)
    whole: Images = np.clip(found, 0, 255).astype(np.uint8)
    return whole if whole.ndim == 3 else whole[..., None]


def _box(
    kind: str, random: np.random.Generator, width: int, height: int
) -> tuple[float, float, float, float]:
    wide = high = 1.0
    if "crop" in kind:
        wide = high = random.uniform(0.6, 0.95)
    elif "both" in kind:
        wide, high = random.uniform(0.6, 1, 2)
    elif "aspect" in kind:
        part = random.uniform(0.65, 0.95)
        wide, high = (part, 1.0) if random.random() < 0.5 else (1.0, part)
    centred = "aspect" in kind
    left, upper = ((1 - part) * (0.5 if centred else random.uniform()) for part in (wide, high))
    return left * width, upper * height, (left + wide) * width, (upper + high) * height


def main() -> None:
    """Print a line for each kind."""
    folder, name, n = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    images, half = read(folder / f"{name}.npz"), n // 2
    images = images[np.random.default_rng(0).permutation(len(images))][: 2 * n]
    for kind in sys.argv[4:]:
        random = np.random.default_rng(1)
        others = np.concatenate([images[:half], images[n : n + half]])
        started = time.perf_counter()
        found = near_across(small(changed(image, kind, random) for image in others), small(images[:n]))
        own = [p for p in found.pairs if p.first == p.second and p.first < half]
        wrong = len(found.pairs) - len(own)
        print(
            f"| {name} | {n} and {n} | {kind} | {len(own)} of {half} | {wrong} | {found.typical:.3f} | "
            f"{found.threshold:.3f} | {time.perf_counter() - started:.0f} s |",
            flush=True,
        )


if __name__ == "__main__":
    main()
