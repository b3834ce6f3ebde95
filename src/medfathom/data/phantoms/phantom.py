"""Phantom data sets: images drawn from a seed, the same bytes on any machine (see `exact`).

Lesions range from almost invisible to obvious, so that even a perfect reader misses some; `difficulty` makes
them weaker and the noise stronger.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from medfathom.data.phantoms import cxr as phantom_cxr
from medfathom.data.phantoms import oct as phantom_oct
from medfathom.data.phantoms import wsi as phantom_wsi
from medfathom.data.phantoms.exact import Dice
from medfathom.data.prepared import SPLIT_NAMES
from medfathom.data.sources.base import Listing, RawImage, Source, task_of
from medfathom.definitions.dataset import PhantomDataset
from medfathom.errors import DataError, did_you_mean


class Render(Protocol):
    """Draws one image, uint8 (size, size, channels)."""

    def __call__(
        self, size: int, lesions: frozenset[str], difficulty: int, anatomy: Dice, image: Dice
    ) -> NDArray[np.uint8]:
        """Draw.

        Args:
            size: side, pixels.
            lesions: those of the phantom's lesions that the image shows.
            difficulty: 0 to 1000.
            anatomy: randomness that all images of one patient share.
            image: randomness of this image's own.
        """


@dataclass(frozen=True)
class Phantom:
    """A kind of phantom."""

    healthy: str
    lesions: tuple[str, ...]
    channels: int
    render: Render


PHANTOMS = {
    "phantom-cxr": Phantom(phantom_cxr.HEALTHY, phantom_cxr.LESIONS, 1, phantom_cxr.render),
    "phantom-oct": Phantom(phantom_oct.HEALTHY, phantom_oct.LESIONS, 1, phantom_oct.render),
    "phantom-wsi": Phantom(phantom_wsi.HEALTHY, phantom_wsi.LESIONS, 3, phantom_wsi.render),
}

_LABELS, _ANATOMY, _IMAGE = 0, 1, 2
"""Last part of a random stream's key: what it is for."""


class PhantomSource(Source):
    """Splits of the sizes in the definition. Classes alternate, so that they are balanced."""

    def __init__(self, config: PhantomDataset) -> None:
        self._config = config
        self._phantom = PHANTOMS[config.source]
        self._class_names = self._classes()
        self._rows: list[tuple[int, int, int]] = []
        self._labels: NDArray[Any] = np.zeros(0, dtype=np.int64)

    def signature(self) -> str:
        """The definition: nothing else decides the content."""
        return json.dumps(self._config.model_dump(mode="json"), sort_keys=True)

    def listing(self) -> Listing:
        """Names, patients and labels; nothing is drawn yet."""
        config = self._config
        n_images = (config.n_train, config.n_val, config.n_test)
        n_patients = (config.patients_train, config.patients_val, config.patients_test)
        self._rows = [
            (split, index, index % (n_patients[split] or n_images[split]))
            for split in range(len(SPLIT_NAMES))
            for index in range(n_images[split])
        ]
        self._labels = np.array([self._label(split, patient) for split, _, patient in self._rows])
        grouped = config.patients_train is not None
        multilabel = config.task == "multilabel"
        return Listing(
            names=[f"{SPLIT_NAMES[split]}/{index}" for split, index, _ in self._rows],
            labels=self._labels.astype(np.uint8 if multilabel else np.int64),
            splits=np.array([SPLIT_NAMES[split] for split, _, _ in self._rows], dtype=np.str_),
            groups=np.array([f"{SPLIT_NAMES[s]}-{p}" for s, _, p in self._rows]) if grouped else None,
            task="multilabel" if multilabel else task_of(len(self._class_names)),
            class_names=self._class_names,
            channels=self._phantom.channels,
            dtype=np.dtype(np.uint8),
        )

    def fetch(self, rows: Sequence[int]) -> list[int]:
        """The rows themselves: `decode` needs nothing else."""
        return list(rows)

    def decode(self, fetched: int) -> RawImage:
        """Draw one image."""
        split, index, patient = self._rows[fetched]
        seed, size = self._config.seed, self._config.image_size
        pixels = self._phantom.render(
            size,
            self._lesions(fetched),
            round(self._config.difficulty * 1000),
            Dice(seed, split, patient, _ANATOMY),
            Dice(seed, split, index, _IMAGE),
        )
        return RawImage(pixels, size, size, hashlib.sha256(pixels.data).hexdigest())

    def _lesions(self, row: int) -> frozenset[str]:
        """The lesions that a row's label names."""
        label, names = self._labels[row], self._class_names
        flags = label if self._config.task == "multilabel" else np.arange(len(names)) == label
        there = (name for name, flag in zip(names, flags, strict=True) if flag)
        return frozenset(there) - {self._phantom.healthy}

    def _classes(self) -> tuple[str, ...]:
        multilabel = self._config.task == "multilabel"
        known = self._phantom.lesions if multilabel else (self._phantom.healthy, *self._phantom.lesions)
        asked = self._config.classes or known
        for name in asked:
            if name not in known:
                hint = did_you_mean(name, known)
                raise DataError(f"dataset.classes: {name!r} is no class of {self._config.source}; {hint}")
        if len(set(asked)) < len(asked):
            raise DataError(f"dataset.classes: a class is named twice: {', '.join(asked)}")
        return tuple(asked)

    def _label(self, split: int, patient: int) -> list[int] | int:
        if self._config.task == "multilabel":
            dice = Dice(self._config.seed, split, patient, _LABELS)
            return [dice.between(0, 1) for _ in self._class_names]
        return patient % len(self._class_names)
