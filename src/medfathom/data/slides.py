"""Whole slides: which parts show tissue, and tiles of them at a stated size of pixels.

OpenSlide reads them; where its library does not load, tiffslide does (TIFF alone). Both are imported when a
slide is opened.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from math import ceil
from pathlib import Path
from threading import local
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medfathom.data.pixels import MAX_PIXELS, Pixels, UnreadableImageError, damage
from medfathom.data.pseudonyms import Subject, subject_of

SUFFIXES = (".svs", ".ndpi", ".mrxs")
"""Of files that are nothing but slides; a TIFF or DICOM file may be one."""

CUT = 'a whole slide; unit = "slide" with dataset.mpp cuts it into tiles'

INSTALL = "install medfathom[slides]"

SCANNED = (0.05, 10.0)
"""Microns per pixel that a slide's header may say. Others stand there by chance: 72 dots per inch are 353."""

FINER = 1.1
"""A slide may be so much coarser than the tiles: scanners' "0.25" is up to 0.27."""

OVERVIEW_PIXELS = 2**24
"""Of the overview in which tissue is found: a slide of 25 x 20 mm has pixels of 5 microns or less in it."""

DETAIL = 16
"""Pixels of the overview across a tile, where the slide has them: finer ones would be more noise and work."""

MAX_OVERVIEW = 50_000_000
"""Pixels of the smallest level that are read for the overview: more take longer than 3 seconds."""

STRIP = 2**24
"""Pixels of a large level that are read at once."""

LEAST_SATURATION = 8
"""Of 255. Glass and JPEG's noise on it stay below (CLAM, Lu et al. 2021, takes 8 too)."""

MOST_SATURATION = 50
"""Of 255. Pale eosin is above, glass and its tint below. Without this limit Otsu's threshold parts pink from
purple on a slide of tissue alone, and pen from tissue."""

LEAST_LIGHT = 32
"""Of 255. What is darker is pen, dust or the scanner's border; its saturation is noise."""


class Tile(NamedTuple):
    """A part of a slide.

    Attributes:
        x, y: its upper left corner, in pixels of the slide's largest level.
        width, height: in the same pixels.
    """

    x: int
    y: int
    width: float
    height: float

    def __str__(self) -> str:
        return f"tile {self.x},{self.y}"


class TileKeys(Protocol):
    """The keys of a data set, or of a model, that say which tiles slides are cut into."""

    @property
    def image_size(self) -> int: ...  # noqa: D102
    @property
    def mpp(self) -> float | None: ...  # noqa: D102
    @property
    def tiles(self) -> int: ...  # noqa: D102
    @property
    def tiles_seed(self) -> int: ...  # noqa: D102
    @property
    def tissue(self) -> float: ...  # noqa: D102


@dataclass(frozen=True)
class Tiling:
    """Which tiles of a slide are taken: the same of the same slide, wherever it lies.

    Attributes:
        mpp: microns per pixel of a tile.
        size: side of a tile, pixels.
        n: tiles of a slide, at most.
        seed: of their choice.
        tissue: least part of a tile that shows tissue, 0 to 1.
    """

    mpp: float
    size: int
    n: int
    seed: int
    tissue: float

    @classmethod
    def of(cls, keys: TileKeys) -> Tiling | None:
        """As keys say; None where slides are no whole files."""
        if keys.mpp is None:
            return None
        return cls(keys.mpp, keys.image_size, keys.tiles, keys.tiles_seed, keys.tissue)


@dataclass(frozen=True)
class Slide:
    """What a slide's header says.

    Attributes:
        across, down: microns per pixel of the largest level.
        stated: the header's own microns per pixel across; None where it has none.
        series: DICOM SeriesInstanceUID, which the files of a slide share; "" for other formats.
        subject: of a DICOM slide.
    """

    across: float
    down: float
    stated: float | None = None
    series: str = ""
    subject: Subject | None = None

    def key(self, path: Path) -> tuple[str, str]:
        """Equal for files of one slide: its levels are files of their own in DICOM."""
        return (str(path.parent), self.series) if self.series else (str(path), "")


def read_slide(
    path: Path, tiling: Tiling, mpp: float | None = None, *, otherwise: float | None = None
) -> Slide:
    """Look at a slide's header.

    Args:
        path: its file; of a DICOM slide any of its files.
        tiling: the tiles that it shall give.
        mpp: microns per pixel of its largest level, instead of what the header says.
        otherwise: the same where the header says nothing.

    Raises:
        UnreadableImageError: no slide, damaged, or its microns per pixel are not known or too coarse.
    """
    with _opened(path) as (library, slide):
        stated = _stated(library, slide)
        if mpp is None and stated is None:
            mpp = otherwise
        if mpp is None and stated is None:
            raise UnreadableImageError(_unknown(library, slide))
        across, down = stated or (0.0, 0.0)
        if mpp is not None:
            across, down = mpp, mpp * (down / across if stated else 1)
        properties = slide.properties
        series = str(properties.get("dicom.SeriesInstanceUID") or "")
        patient = subject_of(lambda word: properties.get(f"dicom.{word}")) if series else None
    if max(across, down) > FINER * tiling.mpp:
        raise UnreadableImageError(
            f"scanned at {max(across, down):g} microns per pixel, coarser than dataset.mpp = {tiling.mpp:g}"
        )
    return Slide(across, down, stated[0] if stated else None, series, patient)


def choose_tiles(path: Path, slide: Slide, tiling: Tiling) -> list[Tile]:
    """Tiles with tissue from a grid without overlap, row by row; a seeded choice where there are more.

    Raises:
        UnreadableImageError: no tile has enough tissue, or there is no overview to find it in.
    """
    with _opened(path) as (library, opened):
        left, top, width, height = _bounds(library, opened)
        across, down = tiling.size * tiling.mpp / slide.across, tiling.size * tiling.mpp / slide.down
        n_columns, n_rows = int(width / across), int(height / down)
        if not n_columns * n_rows:
            raise UnreadableImageError(f"smaller than one tile ({width}x{height} pixels)")
        mask, scale = _tissue(library, opened, min(across, down))
    columns, rows = np.arange(n_columns + 1) * across + left, np.arange(n_rows + 1) * down + top
    share = _shares(mask, rows / scale[1], columns / scale[0])
    found = np.argwhere(share >= tiling.tissue)
    if not len(found):
        raise UnreadableImageError(
            f"no tile with {tiling.tissue:.0%} tissue (at most {share.max():.0%}); see dataset.tissue"
        )
    if len(found) > tiling.n:
        chosen = np.random.default_rng(tiling.seed).choice(len(found), tiling.n, replace=False)
        found = found[np.sort(chosen)]
    return [Tile(round(columns[x]), round(rows[y]), across, down) for y, x in found.tolist()]


def read_tile(path: Path, tile: Tile, size: int) -> tuple[Pixels, str]:
    """A tile's colours, (size, size, 3) uint8, and a SHA-256 of what was read of the slide for them.

    The level just finer than the tile is read, and scaled down, antialiased bilinear. What was not scanned
    has the slide's background colour, white where it names none.

    Raises:
        UnreadableImageError.
    """
    with damage(), _kept(path) as (library, slide):
        level = slide.get_best_level_for_downsample(min(tile.width, tile.height) / size)
        scale = float(slide.level_downsamples[level])
        width, height = tile.width / scale, tile.height / scale
        if width * height > MAX_PIXELS:
            raise UnreadableImageError(f"a tile needs {width:.0f}x{height:.0f} pixels; save it as a pyramid")
        region = slide.read_region((tile.x, tile.y), level, (ceil(width), ceil(height)))
        colours = _on_background(library, slide, region)
        scaled = colours.resize((size, size), Image.Resampling.BILINEAR, box=(0, 0, width, height))
        return np.asarray(scaled), hashlib.sha256(colours.tobytes()).hexdigest()


_mine = local()
"""A slide that a thread reads many tiles of, one after another, stays open."""


@contextmanager
def _kept(path: Path) -> Iterator[tuple[Any, Any]]:
    """The library and the open slide. After an error OpenSlide gives no more tiles: it is opened anew."""
    facts = path.stat()
    now = path, facts.st_size, facts.st_mtime_ns
    kept = getattr(_mine, "kept", None)
    if kept is None or kept[0] != now:
        _forget()
        kept = _mine.kept = (now, *_open(path))
    try:
        yield kept[1], kept[2]
    except Exception:
        _forget()
        raise


def _forget() -> None:
    kept, _mine.kept = getattr(_mine, "kept", None), None
    if kept is not None:
        kept[2].close()


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    with damage():
        library, slide = _open(path)
        with slide:
            yield library, slide


def _library() -> tuple[Any, Callable[[Path], Any]]:
    """The library and its function that opens a slide. Raises UnreadableImageError where there is none."""
    try:
        library = import_module("openslide")
    except (ImportError, OSError):  # its shared library is missing, or is of another system
        try:
            library = import_module("tiffslide")
        except ImportError:
            raise UnreadableImageError(f"a whole slide; {INSTALL} to read it") from None
        return library, library.TiffSlide
    return library, library.OpenSlide


def _open(path: Path) -> tuple[Any, Any]:
    """The library, and the slide that it opened. Raises UnreadableImageError."""
    library, opens = _library()
    if not path.exists():
        raise UnreadableImageError("no such file")
    try:
        return library, opens(path)
    except UnreadableImageError:
        raise
    except Exception as error:
        if _is_unknown(library, error):
            whose = "OpenSlide" if library.__name__ == "openslide" else "tiffslide (OpenSlide does not load)"
            raise UnreadableImageError(f"no whole slide that {whose} reads") from None
        raise


def _is_unknown(library: Any, error: Exception) -> bool:
    """Whether it is no slide at all, by what each library raises then."""
    if library.__name__ == "openslide":
        return isinstance(error, library.OpenSlideUnsupportedFormatError)
    return type(error).__name__ == "TiffFileError" or isinstance(error, ValueError)


def _stated(library: Any, slide: Any) -> tuple[float, float] | None:
    """The header's microns per pixel, across and down; None where it has none that a scanner writes."""
    names = library.PROPERTY_NAME_MPP_X, library.PROPERTY_NAME_MPP_Y
    words = [slide.properties.get(name) for name in names]
    if None in words:
        return None
    across, down = (float(word) for word in words)
    return (across, down) if all(SCANNED[0] <= mpp <= SCANNED[1] for mpp in (across, down)) else None


def _unknown(library: Any, slide: Any) -> str:
    word = slide.properties.get(library.PROPERTY_NAME_MPP_X)
    says = "no microns per pixel" if word is None else f"{float(word):g} microns per pixel, which is no scan"
    return f"its header says {says}; name them by dataset.mpp_column of a table, or by predict --mpp"


def _bounds(library: Any, slide: Any) -> tuple[int, int, int, int]:
    """Left, top, width and height of what was scanned, in pixels of the largest level."""
    width, height = slide.dimensions
    sides = ("X", "Y", "WIDTH", "HEIGHT")
    found = [slide.properties.get(getattr(library, f"PROPERTY_NAME_BOUNDS_{side}")) for side in sides]
    if None in found:
        return 0, 0, width, height
    left, top, across, down = (int(word) for word in found)
    return left, top, across, down


def _tissue(library: Any, slide: Any, side: float) -> tuple[NDArray[np.bool_], tuple[float, float]]:
    """Where tissue is: the mask of an overview, and pixels of the largest level in one of its, (x, y).

    `side`: of a tile, in pixels of the largest level.

    Tissue is what is more saturated than Otsu's threshold, which parts the pixels in two; it is kept
    between `LEAST_SATURATION` and `MOST_SATURATION`.
    """
    from skimage.filters import threshold_otsu  # noqa: PLC0415  takes long to import

    overview = _overview(library, slide, side)
    values = np.asarray(overview.convert("HSV"))
    saturation = np.where(values[:, :, 2] < LEAST_LIGHT, 0, values[:, :, 1])
    counts = np.bincount(saturation.ravel(), minlength=256)
    threshold = 0
    if (counts > 0).sum() > 1:
        threshold = threshold_otsu(hist=(counts, np.arange(256)))  # type: ignore[no-untyped-call]
    width, height = slide.dimensions
    limit = min(max(threshold, LEAST_SATURATION), MOST_SATURATION)
    return saturation > limit, (width / overview.width, height / overview.height)


def _overview(library: Any, slide: Any, side: float) -> Image.Image:
    """The whole slide, as coarse as `DETAIL` allows, and coarser where it would have too many pixels."""
    sizes = [width * height for width, height in slide.level_dimensions]
    scales = [float(scale) for scale in slide.level_downsamples]
    fine = max((k for k, scale in enumerate(scales) if side / scale >= DETAIL), default=0)
    small = next((k for k, size in enumerate(sizes) if size <= OVERVIEW_PIXELS), len(sizes) - 1)
    level = max(fine, small)
    width, height = slide.level_dimensions[level]
    if sizes[level] > MAX_OVERVIEW:
        raise UnreadableImageError(
            f"no level is small enough for an overview (the smallest has {width}x{height} pixels); "
            "save it as a pyramid: vips tiffsave --tile --pyramid"
        )
    shrink = max(ceil((sizes[level] / OVERVIEW_PIXELS) ** 0.5), int(side / scales[level] / DETAIL), 1)
    strip = max(STRIP // width // shrink, 1) * shrink
    whole = Image.new("RGB", (ceil(width / shrink), ceil(height / shrink)))
    for top in range(0, height, strip):
        place = (0, round(top * scales[level]))
        region = slide.read_region(place, level, (width, min(strip, height - top)))
        whole.paste(_on_background(library, slide, region).reduce(shrink), (0, top // shrink))
    return whole


def _on_background(library: Any, slide: Any, region: Image.Image) -> Image.Image:
    """RGB, as the region lies on the slide's background."""
    if region.mode != "RGBA" or region.getchannel("A").getextrema() == (255, 255):
        return region.convert("RGB")
    colour = slide.properties.get(library.PROPERTY_NAME_BACKGROUND_COLOR) or "ffffff"
    background = Image.new("RGBA", region.size, f"#{colour}")
    return Image.alpha_composite(background, region).convert("RGB")


def _shares(
    mask: NDArray[np.bool_], rows: NDArray[np.floating], columns: NDArray[np.floating]
) -> NDArray[np.float64]:
    """For each cell between these rows and columns, in pixels of the mask, the part of it that is True."""
    at = [_whole(edges, size) for edges, size in ((rows, mask.shape[0]), (columns, mask.shape[1]))]
    sums = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), dtype=np.int64)
    mask.cumsum(axis=0, dtype=np.int32).cumsum(axis=1, dtype=np.int64, out=sums[1:, 1:])
    (top, bottom), (left, right) = at
    inside = (
        sums[np.ix_(bottom, right)]
        - sums[np.ix_(top, right)]
        - sums[np.ix_(bottom, left)]
        + sums[np.ix_(top, left)]
    )
    shares: NDArray[np.float64] = inside / np.outer(bottom - top, right - left)
    return shares


def _whole(edges: NDArray[np.floating], size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Start and end of each cell in whole pixels, at least one."""
    start = np.clip(np.rint(edges[:-1]), 0, size - 1).astype(np.int64)
    return start, np.maximum(np.clip(np.rint(edges[1:]), 0, size).astype(np.int64), start + 1)
