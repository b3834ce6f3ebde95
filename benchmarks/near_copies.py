"""How often near copies are found that are none, and planted ones that are: on real images.

Sets are npz files in MedMNIST's layout (histology, B-scans, radiographs). In each the search runs over all
images, and pairs of different groups (or, without groups, all pairs) are listed: they are false, unless the
set itself has copies. Then 300 images get a changed copy each, and the share of copies that the search finds
among all images is counted. `quarters` cuts each image into four, which share no pixel: more texture.

    uv run python benchmarks/near_copies.py FOLDER > benchmarks/results/near_copies.md
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medfathom.data.check.near_copies import near_copies

Pixels = NDArray[Any]

N_PLANTED = 300

SETS = ("histidc_64", "octmh_64", "octmh_128", "pneumoniamnist")


def saved_again(quality: int) -> Callable[[Image.Image], Image.Image]:
    def change(image: Image.Image) -> Image.Image:
        content = io.BytesIO()
        image.save(content, "JPEG", quality=quality)
        return Image.open(content)

    return change


def window(image: Image.Image, share: float, left: float, top: float) -> Image.Image:
    """A window of the image at its full size: cropped, and shifted where left and top differ."""
    side = image.width
    part = (share, 0, side * (1 - share) * left, 0, share, side * (1 - share) * top)
    return image.transform((side, side), Image.Transform.AFFINE, part, Image.Resampling.BILINEAR)


def resized(image: Image.Image) -> Image.Image:
    side = image.width
    small = image.resize((round(side * 0.7),) * 2, Image.Resampling.BILINEAR)
    return small.resize((side, side), Image.Resampling.BILINEAR)


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG, quality 75": saved_again(75),
    "JPEG, quality 40": saved_again(40),
    "resized to 70 % and back": resized,
    "cropped by 3 %": lambda image: window(image, 0.97, 0.5, 0.5),
    "cropped by 6 %, shifted": lambda image: window(image, 0.94, 0.1, 0.9),
    "cropped by 3 %, JPEG 60": lambda image: saved_again(60)(window(image, 0.97, 0.5, 0.5)),
    "brighter by 20 %": lambda image: image.point([min(255, round(v * 1.2)) for v in range(256)] * 3),
    "less contrast": lambda image: image.point([round(v * 0.7 + 10) for v in range(256)] * 3),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
}


def planted(image: Pixels, change: Callable[[Image.Image], Image.Image]) -> Pixels:
    """A changed copy, of the same shape."""
    changed = change(Image.fromarray(image).convert("RGB"))
    pixels = np.asarray(changed)
    return pixels if image.ndim == 3 else pixels[:, :, 0]


def with_channel(images: Pixels) -> Pixels:
    return images[..., None] if images.ndim == 3 else images


def quarters(images: Pixels) -> Pixels:
    half = images.shape[1] // 2
    parts = [images[:, y : y + half, x : x + half] for y in (0, half) for x in (0, half)]
    return np.concatenate(parts)


def read(path: Path) -> tuple[Pixels, Pixels | None]:
    """All distinct images, and their groups."""
    content = np.load(path)
    images = np.concatenate([content[f"{split}_images"] for split in ("train", "val", "test")])
    groups = None
    if "train_groups" in content:
        groups = np.concatenate([content[f"{split}_groups"] for split in ("train", "val", "test")])
    _, first = np.unique(images.reshape(len(images), -1), axis=0, return_index=True)
    first.sort()
    return images[first], None if groups is None else groups[first]


def false_pairs(name: str, images: Pixels, groups: Pixels | None) -> None:
    started = time.perf_counter()
    found = near_copies(with_channel(images))
    seconds = time.perf_counter() - started
    across = [p for p in found.pairs if groups is None or groups[p.first] != groups[p.second]]
    scores = ", ".join(f"{pair.similarity:.2f}" for pair in across[:8])
    print(
        f"| {name} | {len(images)} | {found.threshold:.2f} | {len(found.pairs)} | {len(across)} | {scores} | "
        f"{seconds:.0f} |",
        flush=True,
    )


def shares_found(images: Pixels, change: Callable[[Image.Image], Image.Image]) -> float:
    """The share of planted copies that are found among all images."""
    chosen = np.random.default_rng(0).permutation(len(images))[:N_PLANTED]
    copies = np.stack([planted(images[row], change) for row in chosen])
    found = near_copies(with_channel(np.concatenate([images, copies])))
    pairs = {(pair.first, pair.second) for pair in found.pairs}
    hits = [(int(row), len(images) + place) in pairs for place, row in enumerate(chosen)]
    return float(np.mean(hits))


def main() -> None:
    folder = Path(sys.argv[1])
    sets = {name: read(folder / f"{name}.npz") for name in SETS}
    print("# Near copies: false and planted\n\n`benchmarks/near_copies.py`, two cores.\n")
    print("| set | images | threshold | pairs | of different patients | similarities | s |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, (images, groups) in sets.items():
        false_pairs(name, images, groups)
    for name in ("histidc_64", "octmh_128"):
        images, groups = sets[name]
        false_pairs(f"{name}, quarters", quarters(images), None if groups is None else np.tile(groups, 4))
    print(f"\nPlanted copies that are found, of {N_PLANTED}, among all (at most 1,000) images of the set:\n")
    print("| change | " + " | ".join(SETS) + " |\n| --- |" + " --- |" * len(SETS))
    for what, change in CHANGES.items():
        shares = [shares_found(images[:1000], change) for images, _ in sets.values()]
        print(f"| {what} | " + " | ".join(f"{share:.1%}" for share in shares) + " |", flush=True)


if __name__ == "__main__":
    main()
