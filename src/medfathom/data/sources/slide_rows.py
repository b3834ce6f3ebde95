"""From rows of slides to rows of their tiles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from medfathom.data.pixels import Header, UnreadableImageError
from medfathom.data.slides import Slide, Tile, Tiling, choose_tiles, read_slide
from medfathom.data.sources.cases import FileRows, below, images_of_cases, in_parts, spoilt, taken
from medfathom.definitions.dataset import CsvDataset, FolderDataset
from medfathom.machine import cpus

T = TypeVar("T")

Progress = Callable[[int, int], None]

AGREES = 0.01
"""Of the header's microns per pixel: a table that differs by more is told."""


def rows_of_tiles(
    rows: FileRows,
    config: FolderDataset | CsvDataset,
    root: Path,
    tiling: Tiling,
    looked: Progress | None,
) -> tuple[FileRows, list[Header | str]]:
    """The tiles of slides; each slide is a case.

    Args:
        rows: files; those of one DICOM slide are one row of the result.
        config: the `[dataset]` table.
        root: of the paths that cases are named by.
        tiling: which tiles are taken.
        looked: tissue is found and tiles are chosen, and this is called with the number of slides that are
            done and of all; None: only headers are read, and each slide is one row.

    Returns:
        The rows, and each one's header, or why it cannot be read.
    """
    mpps = rows.mpps or [None] * len(rows.paths)
    read = _each(lambda at: read_slide(rows.paths[at], tiling, mpps[at]), len(rows.paths))
    rows = spoilt(rows, _reasons(read))
    rows = replace(rows, notes=_overruled(rows, read, mpps))
    rows, first = _one_a_slide(rows, read, config, root)
    slides = [read[row] for row in first]
    if looked is not None:
        rows, slides = _in_tiles(rows, slides, root, tiling, looked)
    else:
        told = f"{len(first)} slides; their tissue is detected when the data set is prepared"
        rows = replace(rows, notes=[*rows.notes, told])
    headers = [slide if isinstance(slide, str) else _header(slide, tiling.size) for slide in slides]
    return rows, headers


def _header(slide: Slide, size: int) -> Header:
    return Header(size, size, colour=True, deep=False, subject=slide.subject)


def _one_a_slide(
    rows: FileRows, slides: Sequence[Slide | str], config: FolderDataset | CsvDataset, root: Path
) -> tuple[FileRows, list[int]]:
    """The first row of each slide, with its case, and which rows these were."""
    first: dict[tuple[str, str], int] = {}
    for row, (path, slide) in enumerate(zip(rows.paths, slides, strict=True)):
        first.setdefault((str(path), "") if isinstance(slide, str) else slide.key(path), row)
    of_slide = {
        row: first[slide.key(rows.paths[row])]
        for row, slide in enumerate(slides)
        if not isinstance(slide, str)
    }
    folders = [below(rows.paths[of_slide.get(row, row)], root) for row in range(len(rows.paths))]
    kept = sorted(first.values())
    return taken(images_of_cases(replace(rows, folders=folders), config, root), kept), kept


def _in_tiles(
    rows: FileRows, slides: Sequence[Slide | str], root: Path, tiling: Tiling, looked: Progress
) -> tuple[FileRows, list[Slide | str]]:
    """A row for each tile. A slide without tissue is not good any more."""

    def tiles(row: int) -> Sequence[Tile]:
        slide = slides[row]
        return [] if isinstance(slide, str) else choose_tiles(rows.paths[row], slide, tiling)

    found = _each(tiles, len(slides), looked)
    rows = spoilt(rows, _reasons(found))
    parts = [tiles or None if not isinstance(tiles, str) else None for tiles in found]
    wide, index = in_parts(rows, parts, root)
    counts = [len(tiles) for tiles in parts if tiles]
    few, many = min(counts, default=0), max(counts, default=0)
    sizes = f"{few} tiles each" if few == many else f"{few} to {many} tiles each"
    told = f"{len(counts)} slides of {sizes}, {sum(counts)} in all, at {tiling.mpp:g} microns per pixel"
    return replace(wide, notes=[*wide.notes, told]), [slides[row] for row in index]


def _overruled(rows: FileRows, slides: Sequence[Slide | str], mpps: Sequence[float | None]) -> list[str]:
    """Where the table and the header disagree on microns per pixel."""
    differ = [
        f"{_shown(rows.names[row], slide)}: {mpp:g}, its header {slide.stated:g}"
        for row, (slide, mpp) in enumerate(zip(slides, mpps, strict=True))
        if not isinstance(slide, str) and mpp is not None and slide.stated is not None
        if abs(mpp / slide.stated - 1) > AGREES
    ]
    if not differ:
        return []
    return [f"dataset.mpp_column overrules the header of {len(differ)} slides, the first {differ[0]}"]


def _shown(name: str, slide: Slide) -> str:
    return slide.subject.hidden(name) if slide.subject else name


def _each(work: Callable[[int], T], n: int, done: Progress | None = None) -> list[T | str]:
    """What the work gives for each row, or why it cannot; `done` is called after each."""

    def one(row: int) -> T | str:
        try:
            return work(row)
        except UnreadableImageError as error:
            return str(error)

    with ThreadPoolExecutor(cpus()) as pool:
        found: list[T | str] = []
        for each in pool.map(one, range(n)):
            found.append(each)
            if done is not None:
                done(len(found), n)
        return found


def _reasons(found: Sequence[object]) -> dict[int, str]:
    return {row: reason for row, reason in enumerate(found) if isinstance(reason, str)}
