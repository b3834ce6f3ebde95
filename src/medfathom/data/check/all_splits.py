"""A prepared data set as the checks see it: all splits, one row after the other, in the manifest's order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from medfathom.data.images import Pixels
from medfathom.data.manifest import Manifest, read_manifest
from medfathom.data.prepared import SPLIT_NAMES, PreparedData, Split, load_split


class DataView:
    """Rows of the manifest with their images. It reads the test images too: leaks are found by comparing."""

    def __init__(self, data: PreparedData) -> None:
        self.data = data
        self.manifest = read_manifest(data.folder)
        self.splits: dict[str, Split] = {name: load_split(data.folder, name) for name in SPLIT_NAMES}
        self._starts: dict[str, int] = {}
        start = 0
        for name in SPLIT_NAMES:
            self._starts[name] = start
            start += data.sizes[name]

    def image(self, row: int) -> Pixels:
        """The prepared image of a row."""
        split = str(self.manifest.split[row])
        pixels: Pixels = self.splits[split].images[row - self._starts[split]]
        return pixels

    def rows_of(self, split: str) -> NDArray[np.int64]:
        """The rows of a split."""
        return self._starts[split] + np.arange(self.data.sizes[split])

    def manifest_of(self, split: str) -> Manifest:
        """The manifest of one split."""
        rows = self.rows_of(split)
        return Manifest(**{column: values[rows] for column, values in vars(self.manifest).items()})

    def describe(self, row: int) -> dict[str, Any]:
        """A row as plain values."""
        m = self.manifest
        return {
            "row": int(row),
            "name": str(m.name[row]),
            "split": str(m.split[row]),
            "label": self.class_of(row),
            "group": str(m.group[row]),
        }

    def class_of(self, row: int) -> str:
        """The class name of a row; of several labels, those that are there."""
        names, label = self.data.class_names, str(self.manifest.label[row])
        if self.data.task == "multilabel":
            there = [name for name, flag in zip(names, label.split(), strict=True) if flag == "1"]
            return "+".join(there) or "none"
        return names[int(label)]


class Images(Sequence[Pixels]):
    """Some of the images, read when asked for."""

    def __init__(self, view: DataView, rows: Sequence[int]) -> None:
        self._view, self._rows = view, rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Pixels: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Pixels]: ...
    def __getitem__(self, index: int | slice) -> Pixels | Sequence[Pixels]:
        if isinstance(index, slice):
            return Images(self._view, self._rows[index])
        return self._view.image(self._rows[index])
