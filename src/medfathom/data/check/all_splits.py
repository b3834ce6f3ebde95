"""All splits of a prepared data set in one order: the manifest's rows, with their images.

The checks read the test images too: leaks are found by comparing the splits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medfathom.data.images import Pixels
from medfathom.data.manifest import Manifest, read_manifest
from medfathom.data.prepared import SPLIT_NAMES, PreparedData, Split, load_split


@dataclass(frozen=True)
class DescribedImage:
    """An image as a finding names it.

    Attributes:
        row: its row in the manifest, from 0.
        name: its file or row in the source.
        split: train, val or test.
        label: its class; of several labels those that are there, joined by "+", or "none".
        group: its patient or slide; "" where not known.
    """

    row: int
    name: str
    split: str
    label: str
    group: str


class AllSplits:
    """Training, validation and test images, in the order of the manifest's rows."""

    def __init__(self, data: PreparedData) -> None:
        self.data = data
        self.manifest = read_manifest(data.folder)
        self._splits: dict[str, Split] = {name: load_split(data.folder, name) for name in SPLIT_NAMES}
        self._starts: dict[str, int] = {}
        start = 0
        for name in SPLIT_NAMES:
            self._starts[name] = start
            start += data.sizes[name]

    def __getitem__(self, name: str) -> Split:
        return self._splits[name]

    def image(self, row: int) -> Pixels:
        """The prepared image of a row."""
        name = str(self.manifest.split[row])
        pixels: Pixels = self[name].images[row - self._starts[name]]
        return pixels

    def rows_of(self, name: str) -> NDArray[np.int64]:
        """The rows of a split."""
        return self._starts[name] + np.arange(self.data.sizes[name])

    def manifest_of(self, name: str) -> Manifest:
        """The manifest of one split."""
        rows = self.rows_of(name)
        return Manifest(**{column: values[rows] for column, values in vars(self.manifest).items()})

    def describe(self, row: int) -> DescribedImage:
        """What a finding says of a row."""
        m = self.manifest
        return DescribedImage(
            int(row), str(m.name[row]), str(m.split[row]), self.class_of(row), str(m.group[row])
        )

    def class_of(self, row: int) -> str:
        """The class name of a row; of several labels, those that are there."""
        names, label = self.data.class_names, str(self.manifest.label[row])
        if self.data.task == "multilabel":
            there = [name for name, flag in zip(names, label.split(), strict=True) if flag == "1"]
            return "+".join(there) or "none"
        return names[int(label)]
