"""The check's page: one self-contained HTML file with the findings, the numbers and the pictures.

The template escapes every text from the data set (file names, groups, classes); pictures are embedded.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from io import BytesIO
from pathlib import Path

import numpy as np
from jinja2 import Environment, StrictUndefined
from numpy.typing import NDArray
from PIL import Image

from medfathom.data.check.all_splits import AllSplits, DescribedImage
from medfathom.data.check.check import SEVERITIES, CheckReport
from medfathom.data.check.findings import Finding, ImageSet
from medfathom.data.check.statistics import SplitStatistics
from medfathom.data.images import Pixels
from medfathom.files import write_atomically
from medfathom.metrics.unknown import is_present

PER_CLASS = 24
"""Images of each class on its contact sheet, from training and validation."""

SHOWN_SETS = 60
"""Sets of copies shown with pictures, of each finding; the JSON has all."""

PER_SET = 6
"""Pictures of one set of copies, at most."""

TILE = 96
"""Side of a picture, pixels."""

COLUMNS = 8
"""Pictures in a row of a contact sheet."""


@dataclass(frozen=True)
class _Picture:
    """An embedded picture: its size in pixels, and its content as a data URL."""

    width: int
    height: int
    source: str


@dataclass(frozen=True)
class _Set:
    """Images that a finding names together, each with its picture; `more` are not shown."""

    images: list[tuple[DescribedImage, _Picture]]
    more: int
    similarity: float | None


@dataclass(frozen=True)
class _Gallery:
    """The pictures of a finding; `more` sets are not shown."""

    title: str
    sets: list[_Set]
    more: int


@dataclass(frozen=True)
class _ContactSheet:
    """Some images of a class, of `n_images` training and validation images."""

    title: str
    n_images: int
    picture: _Picture


def write_page(report: CheckReport, path: Path, *, title: str, seed: int = 0) -> None:
    """Write the page; its folder is made where it is not there.

    Args:
        report: what was found.
        path: the HTML file.
        title: the data set's name.
        seed: of the choice of images shown.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, page(report, title=title, seed=seed))


def page(report: CheckReport, *, title: str, seed: int = 0) -> str:
    """The HTML page; arguments as for `write_page`."""
    environment = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    template = environment.from_string(
        files("medfathom.data.check").joinpath("page.html.j2").read_text("utf-8")
    )
    splits = AllSplits(report.data)
    return template.render(
        title=title,
        report=report,
        data=report.data,
        counts={s: sum(finding.severity == s for finding in report.findings) for s in SEVERITIES},
        numbers=_numbers(report.splits),
        galleries=_galleries(report, splits),
        sheets=_contact_sheets(splits, seed),
    )


def _numbers(splits: Sequence[SplitStatistics]) -> Iterator[tuple[str, list[str]]]:
    """Rows of the table of splits: what, and its text for each split."""

    def three(values: tuple[float, float, float]) -> str:
        return " / ".join(f"{value:,.0f}" for value in values)

    yield "images", [f"{s.n_images:,}" for s in splits]
    if splits[0].n_cases is not None:
        yield "cases", [f"{s.n_cases:,}" for s in splits]
    for name in splits[0].classes:
        yield (
            f"{'' if splits[0].n_cases is None else 'cases '}of class {name}",
            [f"{s.classes[name]:,}" for s in splits],
        )
    yield "patients or slides", ["not known" if s.n_groups is None else f"{s.n_groups:,}" for s in splits]
    yield "width (smallest / median / largest), px", [three(s.sizes.width) for s in splits]
    yield "height, px", [three(s.sizes.height) for s in splits]
    yield "file size, bytes", [three(s.sizes.n_bytes) for s in splits]
    yield "mean intensity (0 black, 1 white)", [f"{s.intensities.mean:.3f}" for s in splits]
    yield "standard deviation of intensity", [f"{s.intensities.std:.3f}" for s in splits]
    yield "black pixels", [f"{s.intensities.black:.1%}" for s in splits]
    yield "white pixels", [f"{s.intensities.white:.1%}" for s in splits]


def _galleries(report: CheckReport, splits: AllSplits) -> Iterator[_Gallery]:
    """Pictures of every finding that names images."""
    for finding in report.findings:
        sets = _image_sets(finding)
        if sets:
            shown = [_shown(found, splits) for found in sets[:SHOWN_SETS]]
            yield _Gallery(f"{finding.check} ({len(sets)})", shown, len(sets) - len(shown))


def _image_sets(finding: Finding) -> list[ImageSet]:
    """What a finding names: sets of images, or single ones as sets of one."""
    sets = [ImageSet([item]) for item in finding.items if isinstance(item, DescribedImage)]
    return [*sets, *(item for item in finding.items if isinstance(item, ImageSet))]


def _shown(found: ImageSet, splits: AllSplits) -> _Set:
    shown = [(image, _embedded(_tile(splits.image(image.row)))) for image in found.images[:PER_SET]]
    return _Set(shown, len(found.images) - len(shown), found.similarity)


def _contact_sheets(splits: AllSplits, seed: int) -> Iterator[_ContactSheet]:
    """A sheet of every class. Test images are not shown here."""
    random = np.random.default_rng(seed)
    rows = np.concatenate([splits.rows_of("train"), splits.rows_of("val")])
    labels = np.concatenate([splits["train"].labels, splits["val"].labels])
    for index, name in enumerate(splits.data.class_names):
        has = is_present(labels[:, index]) if labels.ndim == 2 else labels == index
        chosen = np.sort(random.permutation(rows[has])[:PER_CLASS])
        sheet = _sheet([_tile(splits.image(int(row))) for row in chosen])
        yield _ContactSheet(name, int(has.sum()), _embedded(sheet))


def _tile(image: Pixels) -> NDArray[np.uint8]:
    """A picture of TILE pixels, RGB."""
    shallow = (image // 257).astype(np.uint8) if image.dtype == np.uint16 else image.astype(np.uint8)
    colour = np.repeat(shallow, 3, axis=2) if shallow.shape[2] == 1 else shallow
    large = image.shape[0] > TILE
    scaled = Image.fromarray(colour).resize(
        (TILE, TILE), Image.Resampling.BILINEAR if large else Image.Resampling.NEAREST
    )
    return np.asarray(scaled)


def _sheet(tiles: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """The tiles in rows of COLUMNS, two white pixels between them."""
    step = TILE + 2
    sheet = np.full((-(-len(tiles) // COLUMNS) * step, COLUMNS * step, 3), 255, dtype=np.uint8)
    for position, tile in enumerate(tiles):
        top, left = position // COLUMNS * step, position % COLUMNS * step
        sheet[top : top + TILE, left : left + TILE] = tile
    return sheet


def _embedded(pixels: NDArray[np.uint8]) -> _Picture:
    content = BytesIO()
    Image.fromarray(pixels).save(content, "JPEG", quality=88)
    encoded = base64.b64encode(content.getvalue()).decode()
    return _Picture(pixels.shape[1], pixels.shape[0], f"data:image/jpeg;base64,{encoded}")
