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
    files = files_of(path, Choice(config.include, config.exclude)) if os.path.isdir(path) else [path]  # noqa: PTH112  as in `exported.model`
    if not files:
        raise DataError(f"{path}: no image in this folder (looked for {', '.join(SUFFIXES)})")
    for file in files:
        match = None if config.case_pattern is None else re.search(config.case_pattern, file.as_posix())
        if config.case_pattern is not None and match is None:
            found.without[str(file)] = f"no {config.unit}: case_pattern {config.case_pattern!r} finds none"
            continue
        group = _patient(file, config)
        found.items.append(file)
        found.cases.append(f"{group}{match.group(1)}" if match else str(file.parent))


def _patient(file: Path, config: ModelConfig) -> str:
    """What comes before a case's name, as preparation has it: equal cases of two patients are two cases."""
    match = None if config.group_pattern is None else re.search(config.group_pattern, file.as_posix())
    return f"{match.group(1)}/" if match else ""
