"""HDF5 files in PatchCamelyon's layout: for each split one file of images and one of labels."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from medfathom.data.images import Pixels
from medfathom.data.labels import from_numbers, need_groups
from medfathom.data.prepared import SPLIT_NAMES, SplitName
from medfathom.data.sources.base import Listing, RawImage, Source
from medfathom.data.sources.files import existing, file_signature
from medfathom.data.sources.folder import SPLIT_FOLDERS
from medfathom.data.sources.npz import array_form, as_raw, common
from medfathom.definitions.dataset import Hdf5Dataset
from medfathom.errors import DataError, did_you_mean

BLOCK = 256
"""Rows read at once: HDF5 decompresses whole chunks."""


class Hdf5Source(Source):
    """Rows of each split's images, in order. A row's name is its file and number: `..._train_x.h5[17]`."""

    def __init__(self, config: Hdf5Dataset) -> None:
        self._config = config
        self.path = existing(config.path, folder=True)
        self._words: dict[str, str | None] = {split: self._word(split) for split in SPLIT_NAMES}
        if self._words["train"] is None:
            raise DataError(
                f"dataset.path: no file {config.images.format(split='train')} in {self.path}; "
                f"found {', '.join(sorted(p.name for p in self.path.iterdir())[:8]) or 'nothing'}"
                " (.gz files must be unpacked first)"
            )
        self._files: dict[str, h5py.File] = {}
        self._rows: list[tuple[str, int]] = []
        self._block: tuple[str, int, NDArray[Any]] | None = None

    def signature(self) -> str:
        """Path, size and time of every file."""
        patterns = [p for p in (self._config.images, self._config.labels, self._config.groups) if p]
        paths = [self._file(pattern, split) for split in self._there() for pattern in patterns]
        return "\n".join(map(file_signature, paths))

    def listing(self) -> Listing:
        """Check that the arrays fit together and read the labels. No pixel is read."""
        shapes = {split: self._images(split).shape for split in self._there()}
        channels, dtype = self._common_form()
        rows = [(split, row) for split, shape in shapes.items() for row in range(shape[0])]
        names = [f"{self._file(self._config.images, split).name}[{row}]" for split, row in rows]
        values = np.concatenate([self._labels(split, shape[0]) for split, shape in shapes.items()])
        labels = from_numbers(values, names, self._config.class_names)
        n_images = {split: shape[0] for split, shape in shapes.items()}
        groups = self._column(self._config.group_column, "group_column", n_images)
        labels = need_groups(labels, groups, names)
        kept = np.flatnonzero(labels.good).tolist()
        self._rows = [rows[i] for i in kept]
        self.row_bytes = int(np.prod(shapes["train"][1:])) * dtype.itemsize
        return Listing(
            names=[names[i] for i in kept],
            labels=labels.values[kept],
            splits=np.array([split for split, _ in self._rows], dtype=np.str_),
            groups=None if groups is None else groups[kept],
            task=labels.task,
            class_names=labels.class_names,
            channels=channels,
            dtype=dtype,
            problems=labels.problems,
            kept={
                name: cells[kept]
                for name in self._config.keep
                if (cells := self._column(name, "keep", n_images)) is not None
            },
        )

    def fetch(self, rows: Sequence[int]) -> list[Pixels]:
        """Pixels, read in blocks."""
        return [self._pixels(*self._rows[row]) for row in rows]

    def decode(self, fetched: Pixels) -> RawImage:
        """The rows are pixels already: only make them square."""
        return as_raw(fetched, self._config.image_size, self._config.fit, self._config.bits)

    def close(self) -> None:
        """Close all files."""
        for file in self._files.values():
            file.close()

    def _word(self, split: SplitName) -> str | None:
        """The files' word for a split; None where there is no such file."""
        words = SPLIT_FOLDERS[split]
        return next((w for w in words if (self.path / self._config.images.format(split=w)).is_file()), None)

    def _there(self) -> list[str]:
        return [split for split in SPLIT_NAMES if self._words[split] is not None]

    def _file(self, pattern: str, split: str) -> Path:
        return self.path / pattern.format(split=self._words[split])

    def _dataset(self, pattern: str, split: str, key: str) -> h5py.Dataset:
        path = self._file(pattern, split)
        try:
            if path.name not in self._files:
                self._files[path.name] = h5py.File(path, "r")
        except FileNotFoundError:
            raise DataError(f"dataset.path: no file {path}") from None
        except OSError as error:
            raise DataError(f"{path}: not an HDF5 file, or damaged ({error})") from None
        file = self._files[path.name]
        if not isinstance(file.get(key), h5py.Dataset):
            raise DataError(f"{path}: no array {key!r}; {did_you_mean(key, file)}")
        return file[key]

    def _images(self, split: str) -> h5py.Dataset:
        return self._dataset(self._config.images, split, self._config.image_key)

    def _common_form(self) -> tuple[int, np.dtype[Any]]:
        """Channels and type, which must be the same in all splits."""
        forms = {}
        for split in self._there():
            images = self._images(split)
            where = f"{self._file(self._config.images, split)}: {images.name}"
            forms[split] = array_form(where, images.shape, images.dtype)
        return common(self.path, forms)

    def _labels(self, split: str, n_images: int) -> NDArray[Any]:
        path = self._file(self._config.labels, split)
        labels = self._dataset(self._config.labels, split, self._config.label_key)
        if labels.ndim == 0 or labels.shape[0] != n_images:
            raise DataError(
                f"{path}: {labels.name} has shape {labels.shape}, but "
                f"{self._file(self._config.images, split).name} has {n_images} images"
            )
        if labels.dtype.kind not in "biuf":
            raise DataError(f"{path}: {labels.name} is {labels.dtype}; expected class numbers")
        values: NDArray[Any] = labels[...]
        return values.reshape(n_images, -1)

    def _column(self, name: str, key: str, n_images: dict[str, int]) -> NDArray[np.str_] | None:
        """A column of the tables beside the images, of all splits; None: there are no tables.

        `key` is the key of `[dataset]` that names it.
        """
        pattern = self._config.groups
        if pattern is None:
            return None
        cells: list[str] = []
        for split, n in n_images.items():
            found = _column(self._file(pattern, split), name, key)
            if len(found) != n:
                raise DataError(
                    f"{self._file(pattern, split)}: {len(found)} rows, but there are {n} {split} images"
                )
            cells += found
        return np.array(cells, dtype=np.str_)

    def _pixels(self, split: str, row: int) -> Pixels:
        start = row - row % BLOCK
        if self._block is None or self._block[:2] != (split, start):
            try:
                block = self._images(split)[start : start + BLOCK]
            except OSError as error:
                path = self._file(self._config.images, split)
                raise DataError(
                    f"{path}: rows {start} to {start + BLOCK - 1} are damaged ({error})"
                ) from None
            self._block = (split, start, block.astype(block.dtype.newbyteorder("="), copy=False))
        pixels: Pixels = self._block[2][row - start]
        return pixels


def _column(path: Path, column: str, key: str) -> list[str]:
    """One column of a CSV file."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            if column not in (table.fieldnames or ()):
                hint = did_you_mean(column, table.fieldnames or ())
                raise DataError(f"dataset.{key}: {path} has no column {column!r}; {hint}")
            return [(row[column] or "").strip() for row in table]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({error})") from None
