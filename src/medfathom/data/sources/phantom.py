"""Data sets made on the spot. The same bytes for the same seed on any machine: see `exact`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from medfathom.data.config import PhantomDataset
from medfathom.data.prepared import SPLIT_NAMES
from medfathom.data.sources import phantom_oct
from medfathom.data.sources.base import Listing, RawImage, Source
from medfathom.data.sources.exact import Dice

Render = Callable[[int, str, int, Dice, Dice], np.ndarray]


@dataclass(frozen=True)
class Phantom:
    """A kind of phantom: its classes and what draws one image."""

    class_names: tuple[str, ...]
    channels: int
    render: Render


PHANTOMS = {"phantom-oct": Phantom(phantom_oct.CLASS_NAMES, 1, phantom_oct.render)}

_ANATOMY, _IMAGE = 0, 1
"""Last part of a random stream's key: what a patient's images share, and what is one image's own."""


class PhantomSource(Source):
    """Splits of the sizes asked for; classes take turns, so that they are balanced."""

    def __init__(self, config: PhantomDataset) -> None:
        self.config = config
        self.phantom = PHANTOMS[config.source]
        self._rows: list[tuple[int, int]] = []
        self._labels = np.zeros(0, dtype=np.int64)

    def signature(self) -> str:
        """The definition says it all."""
        return json.dumps(self.config.model_dump(mode="json"), sort_keys=True)

    def listing(self) -> Listing:
        """Names and labels; nothing is drawn yet."""
        n_images = (self.config.n_train, self.config.n_val, self.config.n_test)
        self._rows = [(split, index) for split, n in enumerate(n_images) for index in range(n)]
        n_classes = len(self.phantom.class_names)
        self._labels = np.array([index % n_classes for _, index in self._rows], dtype=np.int64)
        return Listing(
            names=[f"{SPLIT_NAMES[split]}/{index}" for split, index in self._rows],
            labels=self._labels,
            splits=np.array([SPLIT_NAMES[split] for split, _ in self._rows]),
            groups=None,
            task="binary" if n_classes == 2 else "multiclass",
            class_names=self.phantom.class_names,
            channels=self.phantom.channels,
            dtype=np.dtype(np.uint8),
        )

    def fetch(self, rows: Sequence[int]) -> list[int]:
        """A row is all that is needed."""
        return list(rows)

    def decode(self, fetched: int) -> RawImage:
        """Draw one image."""
        split, index = self._rows[fetched]
        key = (self.config.seed, split, index)
        pixels = self.phantom.render(
            self.config.image_size,
            self.phantom.class_names[self._labels[fetched]],
            round(self.config.difficulty * 1000),
            Dice(*key, _ANATOMY),
            Dice(*key, _IMAGE),
        )
        return RawImage(pixels, hashlib.sha256(pixels).hexdigest(), 0)
