"""Which images belong to one case, where a model of cases predicts: the same rules as preparation has."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from medfathom.data.images import SUFFIXES
from medfathom.data.sources.cases import files_of
from medfathom.data.sources.walk import Choice
from medfathom.errors import DataError
from medfathom.models.folder import ModelConfig

Item = str | Path | NDArray[Any]
"""A file or an array."""


@dataclass(frozen=True)
class CaseImages:
    """The images to predict, each with its case.

    Attributes:
        items: files or arrays, n.
        cases: the case of each, n.
        without: file -> why its case is not known.
    """

    items: list[Item]
    cases: list[str]
    without: dict[str, str]


def images_by_case(images: Item | Sequence[Item], config: ModelConfig) -> CaseImages:
    """All images, each with its case.

    A file's case is what the model's `case_pattern` finds in its path; without a pattern the images of one
    folder are a case. An array (n, h, w, c) is a case, and so is each entry of a sequence.

    Raises:
        DataError: a folder has no image.
    """
    found = CaseImages([], [], {})
    for position, item in enumerate(
        [images] if isinstance(images, str | Path) or _is_array(images) else images
    ):
        if isinstance(item, str | Path):
            _add_files(found, Path(item), config)
        else:
            slices = list(item) if item.ndim == 4 else [item]
            found.items.extend(slices)
            found.cases.extend([str(position)] * len(slices))
    return found


def _is_array(images: object) -> bool:
    return hasattr(images, "ndim")


def _add_files(found: CaseImages, path: Path, config: ModelConfig) -> None:
    folder = os.path.isdir(path)  # noqa: PTH112  as in `exported.model`
    files = files_of(path, Choice(config.include, config.exclude)) if folder else [path]
    if not files:
        raise DataError(f"{path}: no image in this folder (looked for {', '.join(SUFFIXES)})")
    for file in files:
        case = _case(file, path if folder else path.parent, config)
        if case is None:
            keys = "case_pattern and group_pattern" if config.group_pattern else "case_pattern"
            found.without[str(file)] = f"no {config.unit}: the model's {keys} find none in its path"
        else:
            found.items.append(file)
            found.cases.append(case)


def _case(file: Path, base: Path, config: ModelConfig) -> str | None:
    """The name of a file's case, as preparation has it; None where a pattern finds nothing."""
    if config.case_pattern is None:
        return str(file.parent)
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
