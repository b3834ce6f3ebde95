"""How long it takes to find the tissue of a whole slide, and to cut and prepare its tiles.

    python benchmarks/slides.py FOLDER

The slide is generated: 64,512 x 61,440 pixels of 0.25 microns, JPEG tiles of 256, four levels. A third shows
tissue: texture in the colours of H&E. Its third level, of 15.5 million pixels, is just within what the
overview takes: no level of any slide takes longer. A second slide has one level of 6,912 x 6,912 pixels, the
largest that is read without a pyramid.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from tifffile import TiffWriter

from medfathom.data.prepare import prepare
from medfathom.data.slides import Tiling, choose_tiles, read_slide
from medfathom.definitions.dataset import FolderDataset

SIDE = 256
KINDS = 48
"""Different tiles of tissue."""


def texture(random: np.random.Generator) -> NDArray[np.uint8]:
    """A tile of tissue: nuclei on stroma."""
    nuclei = gaussian_filter(random.normal(size=(SIDE, SIDE)), 4)
    nuclei = (nuclei > np.quantile(nuclei, 0.8))[:, :, None]
    colours = np.where(nuclei, (110, 70, 150), (215, 140, 185)) + random.normal(0, 8, (SIDE, SIDE, 3))
    return colours.clip(0, 255).astype(np.uint8)


def coded(pixels: NDArray[np.uint8]) -> bytes:
    file = BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=80, subsampling=0)
    return file.getvalue()


def kinds_of_tiles(rows: int, columns: int, random: np.random.Generator) -> NDArray[np.int64]:
    """0: glass; else which tissue, (rows, columns): a third of the slide, in blobs."""
    field = gaussian_filter(random.normal(size=(rows, columns)), min(rows, columns) / 12)
    return np.where(field > np.quantile(field, 0.67), random.integers(1, KINDS + 1, field.shape), 0)


def level_tiles(kinds: NDArray[np.int64], tiles: list[NDArray[np.uint8]], shrink: int) -> Iterator[bytes]:
    """The JPEG of each tile of a level, row by row; each shows shrink x shrink tiles of the first."""
    small = [np.asarray(Image.fromarray(tile).reduce(shrink)) for tile in tiles]
    whole = [coded(tile) for tile in tiles] if shrink == 1 else []
    for y in range(0, len(kinds), shrink):
        for x in range(0, kinds.shape[1], shrink):
            if shrink == 1:
                yield whole[kinds[y, x]]
                continue
            part = np.zeros((shrink, shrink), dtype=np.int64)
            cells = kinds[y : y + shrink, x : x + shrink]
            part[: cells.shape[0], : cells.shape[1]] = cells
            yield coded(np.block([[[small[kind]] for kind in row] for row in part]))


def write_slide(path: Path, rows: int, columns: int, shrinks: tuple[int, ...]) -> None:
    random = np.random.default_rng(0)
    kinds = kinds_of_tiles(rows, columns, random)
    glass = np.full((SIDE, SIDE, 3), (243, 242, 244), dtype=np.uint8)
    tiles = [glass, *(texture(random) for _ in range(KINDS))]
    path.parent.mkdir(parents=True, exist_ok=True)
    keys: dict[str, Any] = {
        "photometric": "rgb",
        "tile": (SIDE, SIDE),
        "compression": "jpeg",
        "metadata": None,
    }
    keys |= {"dtype": np.uint8, "software": False, "resolutionunit": "CENTIMETER"}
    with TiffWriter(path, bigtiff=True) as tiff:
        for shrink in shrinks:
            shape = (rows * SIDE // shrink, columns * SIDE // shrink, 3)
            per_cm = 1e4 / (0.25 * shrink)
            content = level_tiles(kinds, tiles, shrink)
            tiff.write(content, shape=shape, subfiletype=int(shrink > 1), resolution=(per_cm, per_cm), **keys)


def timed_choice(path: Path, repeats: int) -> str:
    tiling = Tiling(mpp=0.5, size=224, n=1000, seed=0, tissue=0.5)
    seconds, cpu, n = [], [], 0
    for _ in range(repeats):
        started, used = time.perf_counter(), time.process_time()
        n = len(choose_tiles(path, read_slide(path, tiling), tiling))
        seconds.append(time.perf_counter() - started)
        cpu.append(time.process_time() - used)
    return (
        f"{n} tiles; medians of {repeats}: {np.median(seconds):.2f} s, of them {np.median(cpu):.2f} s CPU "
        f"({min(cpu):.2f} to {max(cpu):.2f})"
    )


def main() -> None:
    folder = Path(sys.argv[1])
    large = folder / "set" / "train" / "a" / "large.tif"
    if not large.exists():
        write_slide(large, 240, 252, (1, 4, 16, 64))
        write_slide(folder / "one-level.tif", 27, 27, (1,))
    print(f"{large.stat().st_size / 2**20:.0f} MiB; tissue and choice:", timed_choice(large, 3))
    print("one level of 6,912 x 6,912:", timed_choice(folder / "one-level.tif", 3))
    for split in ("train", "val", "test"):
        for name in ("a", "b"):
            link = folder / "set" / split / name / "large.tif"
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.exists():
                link.hardlink_to(large)
    keys = {
        "source": "folder",
        "modality": "WSI",
        "image_size": 224,
        "unit": "slide",
        "mpp": 0.5,
        "tiles": 500,
    }
    config = FolderDataset.model_validate(keys | {"path": str(folder / "set")})
    shutil.rmtree(folder / "cache", ignore_errors=True)
    started, used = time.perf_counter(), time.process_time()
    done: list[tuple[float, int]] = []
    prepare(config, folder / "cache", progress=lambda n, _: done.append((time.process_time(), n)))
    whole, cpu = time.perf_counter() - started, time.process_time() - used
    decoding = done[-1][0] - done[0][0]
    print(
        f"{done[-1][1]} tiles of 6 slides prepared in {whole:.1f} s ({cpu:.1f} s CPU); "
        f"decoding: {done[-1][1] / decoding:.0f} tiles for a second of CPU"
    )


if __name__ == "__main__":
    main()
