"""The manifest of a prepared data set: a row for each image, split by split, in the order of the arrays."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medfathom.data.prepared import SPLIT_NAMES
from medfathom.data.sources.base import Listing
from medfathom.data.workers import Row
from medfathom.files import write_atomically

FILE = "manifest.csv"

COLUMNS = (
    *("name", "split", "label", "group", "study"),
    *("sha256", "n_bytes", "width", "height", "pixels_sha256", "bits_used", "constant", "case"),
)
"""`name`: file or row of the source. `label`: class index, or 0/1 for each label. `group`: patient or
slide, empty where not known; of DICOM files a pseudonym, as `study`, of the StudyInstanceUID (see
`pseudonyms`). `width`, `height`: of the original, pixels. `n_bytes`: of the file, 0 where
there is none. `sha256`: of the file, or of the row's pixels where there is none. `pixels_sha256`: of the
image as prepared. `bits_used`: that the original's values need; 0 for 8-bit images. `constant`: 1 where all
its pixels as prepared are the same. `case`: volume or slide, empty where each image is judged by itself.
"""

ROWS_AT_ONCE = 20_000
NUMBERS = ("n_bytes", "width", "height", "bits_used", "constant")


@dataclass(frozen=True)
class Manifest:
    """The columns, each (n,): int64 for numbers, text otherwise."""

    name: NDArray[np.str_]
    split: NDArray[np.str_]
    label: NDArray[np.str_]
    group: NDArray[np.str_]
    study: NDArray[np.str_]
    sha256: NDArray[np.str_]
    n_bytes: NDArray[np.int64]
    width: NDArray[np.int64]
    height: NDArray[np.int64]
    pixels_sha256: NDArray[np.str_]
    case: NDArray[np.str_]
    bits_used: NDArray[np.int64]
    constant: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.name)

    @property
    def hashes(self) -> tuple[list[str], list[str], list[int]]:
        """Of each image what `copies.exact_copies` compares."""
        return self.sha256.tolist(), self.pixels_sha256.tolist(), self.constant.tolist()


def write_manifest(folder: Path, listing: Listing, splits: NDArray[np.str_], rows: Sequence[Row]) -> None:
    """Write the manifest of images that are all good."""
    write_atomically(folder / FILE, lambda part: _write_table(part, listing, splits, rows))


def _write_table(path: Path, listing: Listing, splits: NDArray[np.str_], rows: Sequence[Row]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for split in SPLIT_NAMES:
            for index in np.flatnonzero(splits == split).tolist():
                row = rows[index]
                group = "" if listing.groups is None else listing.groups[index]
                study = "" if listing.studies is None else listing.studies[index]
                label = " ".join(map(str, np.atleast_1d(listing.labels[index])))
                case = "" if listing.cases is None else listing.cases[index]
                table.writerow([listing.names[index], split, label, group, study, *row.fields(), case])


def read_manifest(folder: Path) -> Manifest:
    """Read it back. Text stays text: patient 007 is not patient 7."""
    with (folder / FILE).open(newline="", encoding="utf-8") as file:
        table = csv.reader(file)
        names = next(table)
        types = [np.int64 if name in NUMBERS else np.str_ for name in names]
        # In pieces: the fields of a million rows, each an object of Python's, take a gigabyte.
        pieces = []
        while rows := list(islice(table, ROWS_AT_ONCE)):
            columns = zip(*rows, strict=True)
            pieces.append([np.array(c, dtype=t) for c, t in zip(columns, types, strict=True)])
    arrays: dict[str, NDArray[Any]] = {
        name: np.concatenate(column) for name, column in zip(names, zip(*pieces, strict=True), strict=True)
    }
    # Sets that an earlier version prepared know of no cases.
    arrays.setdefault("case", np.zeros(len(arrays["name"]), dtype=np.str_))
    # What earlier versions did not record.
    arrays.setdefault("study", np.full(len(arrays["name"]), "", dtype=np.str_))
    for number in ("bits_used", "constant"):
        arrays.setdefault(number, np.zeros(len(arrays["name"]), dtype=np.int64))
    return Manifest(**arrays)
