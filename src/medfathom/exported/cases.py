"""Which images belong to one case, where a model of cases predicts: the same rules as preparation has."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from medfathom.data.images import UnreadableImageError, read_header
from medfathom.data.slides import Tiling, choose_tiles, read_slide
from medfathom.data.sources.base import Ignored
from medfathom.data.sources.walk import Choice, files_below
from medfathom.data.stacks import ImageFile, Part
from medfathom.errors import DataError
from medfathom.models.folder import ModelConfig
from medfathom.text import natural, printable

Item = str | Path | NDArray[Any]
"""A file or an array."""

Image = ImageFile | NDArray[Any]
"""One image: a file or a frame of it, or an array."""


@dataclass(frozen=True)
class CaseImages:
    """The images to predict, each with its case.

    Attributes:
        items: files, frames or arrays, n.
        cases: the case of each, n.
        without: file -> why its case is not known.
        ignored: files of folders that are not images of the model's kind.
    """

    items: list[Image]
    cases: list[str]
    without: dict[str, str]
    ignored: list[Ignored]


def images_by_case(
    images: Item | Sequence[Item], config: ModelConfig, mpp: float | None = None
) -> CaseImages:
    """All images, each with its case; `mpp`: microns per pixel of slides whose header does not say it.

    A file's case is what the model's `case_pattern` finds in its path; without a pattern the images of one
    folder are a case, and so are the frames of a stack where the model judges volumes. An array (n, h, w, c)
    is a case, and so is each entry of a sequence.

    Raises:
        DataError: a folder has no image.
    """
    found = CaseImages([], [], {}, [])
    for position, item in enumerate(
        [images] if isinstance(images, str | Path) or _is_array(images) else images
    ):
        if isinstance(item, str | Path):
            _add_files(found, Path(item), config, mpp)
        else:
            slices = list(item) if item.ndim == 4 else [item]
            found.items.extend(slices)
            found.cases.extend([str(position)] * len(slices))
    return found


def _is_array(images: object) -> bool:
    return hasattr(images, "ndim")


def _add_files(found: CaseImages, path: Path, config: ModelConfig, mpp: float | None) -> None:
    folder = os.path.isdir(path)  # noqa: PTH112  as in `files_or_refused`
    files, ignored = files_or_refused(path, Choice(config.include, config.exclude))
    found.ignored.extend(ignored)
    slides = set[tuple[str, str]]()
    for file in sorted(files, key=natural):
        try:
            parts = _parts(file, config, slides, mpp)
        except UnreadableImageError as error:
            found.without[str(file)] = str(error)
            continue
        case = _case(file, path if folder else path.parent, config, stack=parts != [None])
        if case is None:
            keys = "case_pattern and group_pattern" if config.group_pattern else "case_pattern"
            found.without[str(file)] = f"no {config.unit}: the model's {keys} find none in its path"
        else:
            found.items.extend(ImageFile(file, part=part) for part in parts)
            found.cases.extend([case] * len(parts))


def files_or_refused(path: Path, choice: Choice) -> tuple[list[Path], list[Ignored]]:
    """The file itself; of a folder its images, as in preparation, and what else it has.

    Raises:
        DataError: the folder has no image.
    """
    if not os.path.isdir(path):  # noqa: PTH112  `Path.is_dir` raises where a name is too long
        return [path], []
    below = files_below(path, choice)
    if not below.files:
        left_out = "; ".join(map(str, below.ignored)) or "it is empty"
        raise DataError(f"{printable(str(path))}: there is no image in this folder: {left_out}")
    return [path / file for file in below.files], below.ignored


def _parts(file: Path, config: ModelConfig, slides: set[tuple[str, str]], mpp: float | None) -> list[Part]:
    """The images of a file; none where it is of a slide that is among `slides` already.

    Raises:
        UnreadableImageError: no slide, or none that tiles can be cut from; no image and no stack.
    """
    tiling = Tiling.of(config)
    if tiling is None:
        if config.unit != "volume":
            return [None]
        n_frames = read_header(file, slice_axis=config.slice_axis, eye=config.eye).frames
        return [None] if n_frames is None else list(range(n_frames))
    slide = read_slide(file, tiling, otherwise=mpp)
    if slide.key(file) in slides:
        return []
    slides.add(slide.key(file))
    return list(choose_tiles(file, slide, tiling))


def _case(file: Path, base: Path, config: ModelConfig, *, stack: bool) -> str | None:
    """The name of a file's case, as preparation has it; None where a pattern finds nothing."""
    if config.case_pattern is None:
        return str(file if stack else file.parent)
    patterns = [p for p in (config.group_pattern, config.case_pattern) if p is not None]
    parts = [_searched(pattern, file, base) for pattern in patterns]
    return None if None in parts else "/".join(map(str, parts))


def _searched(pattern: str, file: Path, base: Path) -> str | None:
    """What a pattern finds in the path below the folder given, else with that folder's own name.

    Not in the whole path: how the folders above are called on this machine says nothing of cases.
    """
    for path in (file.relative_to(base), Path(base.absolute().name) / file.relative_to(base)):
        if match := re.search(pattern, path.as_posix()):
            return match.group(1)
    return None
