"""How often `data check` calls an image unlike the others that is not, and how often it finds one that is.

`python benchmarks/unlike_images.py DATA` (a folder with pneumoniamnist.npz, octmh_64.npz, histidc_64.npz)
writes benchmarks/results/unlike_images.md. Random subsets of each real set are searched as they are; then
with a few images of another kind among them: photographs, en-face images of a retina (crops of scikit-
image's fundus photograph, its green channel, as a scanning laser shows it), images of the other sets. Two
minutes of a CPU core.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import skimage
from numpy.typing import NDArray
from PIL import Image

from medfathom.data.check.unlike import STRANGE, strangeness
from medfathom.models.look import look

SETS = ("pneumoniamnist", "octmh_64", "histidc_64")
PHOTOS = (
    "astronaut",
    "camera",
    "chelsea",
    "coffee",
    "coins",
    "grass",
    "horse",
    "moon",
    "page",
    "rocket",
    "text",
)
SIZES = (100, 300, 1000, 20_000)
SUBSETS = 20
Images = NDArray[np.uint8]


def resized(image: Image.Image, side: int, channels: int) -> Images:
    mode = "RGB" if channels == 3 else "L"
    small = image.convert(mode).resize((side, side), Image.Resampling.BILINEAR)
    return np.asarray(small).reshape(side, side, channels)


def real(folder: Path, name: str) -> Images:
    with np.load(folder / f"{name}.npz") as content:
        images = np.concatenate([content[f"{split}_images"] for split in ("train", "val", "test")])
    return images if images.ndim == 4 else images[..., None]


def photographs(side: int, channels: int) -> Images:
    pictures = Path(skimage.__file__).parent / "data"
    files = [file for name in PHOTOS for file in sorted(pictures.glob(f"{name}.*"))]
    return np.stack([resized(Image.open(file), side, channels) for file in files])


def en_face(side: int, channels: int, n: int = 20) -> Images:
    random = np.random.default_rng(0)
    retina = Image.open(Path(skimage.__file__).parent / "data" / "retina.jpg")
    green = retina if channels == 3 else retina.getchannel("G")
    found = []
    for _ in range(n):
        width = int(random.integers(500, 800))
        x, y = (int(random.integers(250, end - 250 - width)) for end in retina.size)
        found.append(resized(green.crop((x, y, x + width, y + width)), side, channels))
    return np.stack(found)


def features(images: Images) -> NDArray[np.float32]:
    return look(lambda row: images[row], list(range(len(images))), images.shape[-1])


def found(
    own: NDArray[np.float32], others: NDArray[np.float32], random: np.random.Generator
) -> tuple[int, int]:
    """Images of the set, and of the others among them, that are called unlike."""
    strange = strangeness(np.concatenate([own, others]), random) > STRANGE
    return int(strange[: len(own)].sum()), int(strange[len(own) :].sum())


def main(folder: Path) -> str:
    lines = [
        "| set | images | planted | called unlike: own | of planted |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name in SETS:
        images = real(folder, name)
        side, channels = images.shape[1], images.shape[-1]
        started = time.process_time()
        own = features(images)
        cost = 1000 * (time.process_time() - started) / len(images)
        kinds = {"photographs": photographs(side, channels), "en-face images": en_face(side, channels)}
        for other in SETS:
            if other != name:
                chosen = [Image.fromarray(i.squeeze()) for i in real(folder, other)[:40]]
                kinds[other] = np.stack([resized(i, side, channels) for i in chosen])
        planted = {"nothing": own[:0], **{kind: features(some) for kind, some in kinds.items()}}
        for n in dict.fromkeys(min(n, len(own)) for n in SIZES):
            for kind, some in planted.items():
                lines.append(row(name, own, n, kind, some))
        lines.append(f"| {name} | {len(images)} | | {cost:.1f} ms of CPU an image | |")
        print(*lines[-3:], sep="\n", flush=True)
    return "\n".join(lines)


def row(name: str, own: NDArray[np.float32], n: int, kind: str, some: NDArray[np.float32]) -> str:
    random = np.random.default_rng(0)
    subsets = SUBSETS if n < len(own) else 1
    called, hit, tried = 0, 0, 0
    for _ in range(subsets):
        among = some[random.permutation(len(some))[: max(2, min(8, n // 25))]]
        wrong, right = found(own[random.permutation(len(own))[:n]], among, random)
        called, hit, tried = called + wrong, hit + right, tried + len(among)
    share = f"{called} of {n * subsets} ({called / (n * subsets):.2%})"
    return f"| {name} | {n} x {subsets} | {kind} | {share} | {f'{hit} of {tried}' if tried else ''} |"


if __name__ == "__main__":
    table = main(Path(sys.argv[1]))
    about = (__doc__ or "").split("\n\n", 1)
    text = f"# {about[0]}\n\n{about[1]}\nThreshold: {STRANGE}.\n\n{table}\n"
    (Path(__file__).parent / "results" / "unlike_images.md").write_text(text, encoding="utf-8")
