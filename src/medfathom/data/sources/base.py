"""What every source of images provides."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medfathom.data.prepared import TaskKind


@dataclass(frozen=True)
class Problem:
    """Something that cannot be used: which file or row, and why."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


class UnreadableImageError(Exception):
    """One image cannot be used; its message is the reason. Caught by preparation, which names all of them."""


@dataclass(frozen=True)
class Listing:
    """All images of a source, in its own order, before any pixel is read.

    Attributes:
        names: file or row of each of the n images.
        labels: int64 (n,) class indices, or uint8 (n, K).
        splits: `train`, `val` or `test` for each image; "" where the source does not say.
        groups: patient or slide of each image, text; None where not known.
        channels: 1 or 3.
        dtype: uint8 or uint16, of the images.
        problems: rows that were found unusable and are not among the n.
    """

    names: Sequence[str]
    labels: np.ndarray
    splits: np.ndarray
    groups: np.ndarray | None
    task: TaskKind
    class_names: tuple[str, ...]
    channels: int
    dtype: np.dtype[Any]
    problems: Sequence[Problem] = field(default_factory=tuple)


@dataclass(frozen=True)
class RawImage:
    """One decoded image: pixels (h, w, channels), uint8 or uint16, and what it was decoded from.

    `sha256` is over the file's bytes, or over the row's pixels where there is no file; `n_bytes` is the
    file's size, 0 where there is none.
    """

    pixels: np.ndarray
    sha256: str
    n_bytes: int


class Source(ABC):
    """A data set somewhere.

    `listing` is called once, then `fetch` with ascending rows, always from one thread; `decode` turns what
    `fetch` gave into pixels, in many threads at once.
    """

    @abstractmethod
    def signature(self) -> str:
        """Cheap text that changes when the content may have: sizes and times of files, no pixels."""

    @abstractmethod
    def listing(self) -> Listing:
        """List all images. Raises DataError for what makes the whole source unusable."""

    @abstractmethod
    def fetch(self, rows: Sequence[int]) -> list[Any]:
        """What `decode` needs for each of these rows of the listing."""

    @abstractmethod
    def decode(self, fetched: Any) -> RawImage:
        """One image. Raises UnreadableImageError with the reason."""

    def close(self) -> None:
        """Let go of open files."""
        return
