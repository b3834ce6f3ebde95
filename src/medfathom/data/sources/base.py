"""The interface of a source of images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medfathom.data.images import Pixels
from medfathom.errors import DataError
from medfathom.metrics.classification import TaskKind
from medfathom.text import command

SHOWN_PROBLEMS = 20
"""An error names this many problems; `data check` and the error's `problems` have all."""

SHOWN_IGNORED = 3
"""A line names this many of the files that are left out; prepared.json has all."""


def first_of(names: Sequence[str]) -> str:
    """The first `SHOWN_IGNORED` names, and whether there are more."""
    return ", ".join(names[:SHOWN_IGNORED]) + (", ..." if len(names) > SHOWN_IGNORED else "")


@dataclass(frozen=True)
class Problem:
    """A file or row that cannot be used, and the reason."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


@dataclass(frozen=True)
class Ignored:
    """Files or rows that do not belong to the data set, for one reason: nothing is wrong with them."""

    reason: str
    names: Sequence[str]

    def __str__(self) -> str:
        files = "1 file" if len(self.names) == 1 else f"{len(self.names)} files"
        return f"left out: {files}, {self.reason} ({first_of(self.names)})"


class UnusableRowsError(DataError):
    """Files or rows of a data set cannot be used; `problems` are all of them."""

    def __init__(self, problems: Sequence[Problem], n_rows: int, follows: str = "") -> None:
        """`follows`: what is wrong with the others alone, where leaving these out is no way on."""
        self.problems = list(problems)
        # One for each reason first: the reason of few rows may be the cause of all.
        first = list({problem.reason: problem for problem in reversed(self.problems)}.values())[::-1]
        ordered = dict.fromkeys([*first, *self.problems])
        shown = "; ".join(map(str, list(ordered)[:SHOWN_PROBLEMS]))
        rest = len(self.problems) - SHOWN_PROBLEMS
        more = f"; and {rest} more, which `{command('data', 'check')}` lists" if rest > 0 else ""
        way_on = "" if follows else ' (dataset.on_bad_image = "skip" leaves them out)'
        then = f"; without them: {follows}" if follows else ""
        super().__init__(
            f"{len(self.problems)} of {n_rows} images or rows cannot be used{way_on}: {shown}{more}{then}"
        )


@dataclass(frozen=True)
class Listing:
    """All images of a source, in its own order, before any pixel is read.

    Attributes:
        names: file or row of each of the n images.
        labels: int64 (n,) class indices, or uint8 (n, K) of 0, 1 and `metrics.unknown.UNKNOWN`.
        splits: `train`, `val` or `test` for each image; "" where the source does not say.
        groups: patient or slide of each image, text; None where not known.
        channels: 1 or 3.
        dtype: uint8 or uint16, of the images.
        problems: rows that cannot be used; they are not among the n.
        cases: the case (volume, slide) of each image, text; None where each image is judged by itself.
        ignored: files and rows that do not belong to the data set; they are not among the n.
        notes: what its reader should know, a line each.
        studies: pseudonym of each image's StudyInstanceUID, text; None where no file is DICOM.
        kept: column -> each image's cell, of those that are carried along for subgroups.
        paths: of each image's file below the data set's folder, where its name may lack folders; else empty.
    """

    names: Sequence[str]
    labels: NDArray[Any]
    splits: NDArray[np.str_]
    groups: NDArray[np.str_] | None
    task: TaskKind
    class_names: tuple[str, ...]
    channels: int
    dtype: np.dtype[Any]
    problems: Sequence[Problem] = ()
    cases: NDArray[np.str_] | None = None
    ignored: Sequence[Ignored] = ()
    notes: Sequence[str] = ()
    studies: NDArray[np.str_] | None = None
    kept: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)
    paths: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.names)

    @property
    def places(self) -> Sequence[str]:
        """Where each image lies, as far as it is known."""
        return self.paths or self.names

    @property
    def clusters(self) -> NDArray[np.str_] | None:
        """What no split divides: the patient of each image, else its case; None where neither is known."""
        return self.cases if self.groups is None else self.groups


@dataclass(frozen=True)
class RawImage:
    """One image as it will be stored, and what it was decoded from.

    Attributes:
        pixels: (image_size, image_size, channels), uint8 or uint16.
        width: of the original, pixels.
        height: of the original, pixels.
        sha256: over the file's bytes, or over the row's pixels where there is no file.
        n_bytes: the file's size; 0 where there is none.
        bits_used: bits that the original's values need; 0 for 8-bit images.
    """

    pixels: Pixels
    width: int
    height: int
    sha256: str
    n_bytes: int = 0
    bits_used: int = 0


def told(positive: str | None, ignored: Sequence[Ignored], notes: Sequence[str]) -> list[str]:
    """What a data set's reader should know, a line each; `positive`: the positive class of two."""
    named = [] if positive is None else [f"positive class: {positive!r}"]
    return [*named, *map(str, ignored), *(f"note: {note}" for note in notes)]


class Source(ABC):
    """A data set where the user keeps it.

    `listing` is called once, then `fetch` with ascending rows, always from one thread. `decode` turns what
    `fetch` returned into pixels, in many threads at once.
    """

    deep: Sequence[int] = ()
    """Rows whose files have more than 8 bits and do not say how many are in use; known after `listing`."""

    looked: Callable[[int, int], None] = staticmethod(lambda done, total: None)
    """Called by `listing` with the number of slides whose tissue was looked for, and of all."""

    row_bytes: int = 0
    """Approximate memory of one fetched row, bytes; known after `listing`."""

    @abstractmethod
    def signature(self) -> str:
        """A text that changes when the content may have changed: sizes and times of files, no pixels."""

    @abstractmethod
    def listing(self) -> Listing:
        """List all images. Raises DataError where the whole source cannot be used."""

    def outline(self) -> Listing:
        """`listing` without a look at pixels, called in its place. A slide is one row, whatever its tiles."""
        return self.listing()

    @abstractmethod
    def fetch(self, rows: Sequence[int]) -> list[Any]:
        """What `decode` needs for each of these rows of the listing."""

    @abstractmethod
    def decode(self, fetched: Any) -> RawImage:
        """One image, at the study's size. Raises UnreadableImageError with the reason."""

    def portable_decode(self) -> Callable[[Any], RawImage] | None:
        """`decode` as something that can be handed to another process; None where that does not pay."""
        return None

    def pixels_in_memory(self, fetched: Any) -> int:
        """Pixels that `decode` holds beyond the image as prepared: where many, few are decoded at once."""
        return 0

    def close(self) -> None:  # noqa: B027  most sources have nothing to close
        """Close open files."""


def task_of(n_classes: int) -> TaskKind:
    """The task of a data set with one class for each image."""
    return "binary" if n_classes == 2 else "multiclass"
