"""Images of a source as a model takes them, a batch at a time: decoded while the network works."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medfathom.data.check.neighbours import thumbnail
from medfathom.data.images import MAX_PIXELS, Pixels, UnreadableImageError
from medfathom.data.pixels import with_channels, with_type
from medfathom.data.sources.base import Source
from medfathom.data.usable import check_used
from medfathom.data.workers import MemoryGate
from medfathom.definitions.dataset import DatasetConfig
from medfathom.models.folder import ModelConfig

BATCH = 64
"""Images decoded, and then predicted, at a time."""


@dataclass(frozen=True)
class ReadImage:
    """One image as the model takes it.

    Attributes:
        pixels: (s, s, c), of the model's type.
        sha256: of the file, or of the row's pixels.
        pixels_sha256: of `pixels`.
        small: its thumbnail, where thumbnails are wanted.
        changes: how it was changed to fit the model, in words.
    """

    pixels: Pixels
    sha256: str
    pixels_sha256: str
    small: NDArray[np.uint8] | None
    changes: tuple[str, ...] = ()


@dataclass
class Found:
    """What was read so far.

    Attributes:
        unreadable: row of the listing -> why it was skipped.
        changes: change in words -> number of images.
        bits_used: row of the listing -> bits that the original's values need; 0 for 8-bit images.
    """

    unreadable: dict[int, str]
    changes: Counter[str]
    bits_used: dict[int, int] = field(default_factory=dict)


class Reader:
    """Reads rows of a source whose `listing` was asked for, in the model's form."""

    def __init__(self, source: Source, config: ModelConfig, *, thumbnails: bool) -> None:
        self._source, self._config, self._thumbnails = source, config, thumbnails
        self._dtype: np.dtype[Any] = np.dtype(config.dtype)
        self._memory = MemoryGate(MAX_PIXELS)
        self.found = Found({}, Counter())

    def batches(self, rows: Sequence[int]) -> Iterator[tuple[list[int], list[ReadImage]]]:
        """Rows and images of all that can be read, in order; the next batch is decoded meanwhile."""
        parts = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            waiting = self._submitted(pool, parts[0]) if parts else []
            for part, following in zip(parts, [*parts[1:], []], strict=True):
                done, waiting = waiting, self._submitted(pool, following)
                kept = [
                    (row, image) for row, future in zip(part, done, strict=True) if (image := future.result())
                ]
                self.found.changes.update(change for _, image in kept for change in image.changes)
                if kept:
                    yield [row for row, _ in kept], [image for _, image in kept]

    def images(self, rows: Sequence[int]) -> NDArray[Any]:
        """Some images again, (n, s, s, c); of rows that could be read before."""
        order = np.argsort(rows, kind="stable")
        read: list[Pixels] = [np.empty(0, np.uint8)] * len(rows)
        fetched = self._source.fetch([rows[place] for place in order])
        for place, each in zip(order.tolist(), fetched, strict=True):
            read[place] = self._fitted(self._source.decode(each).pixels)[0]
        return np.stack(read)

    def check_bits(self, names: Sequence[str], config: DatasetConfig) -> str:
        """What was read of more than 8 bits reaches white, as `prepare` wants it of training images.

        Args:
            names: of the listing's rows.
            config: the `[dataset]` table.

        Returns:
            A line where `bits` is given and some images use a small part of it; else empty.

        Raises:
            DataError: `bits` is not given, and they do not reach white.
        """
        rows = sorted(self.found.bits_used)
        return check_used([names[row] for row in rows], [self.found.bits_used[row] for row in rows], config)

    def _submitted(self, pool: ThreadPoolExecutor, rows: Sequence[int]) -> list[Future[ReadImage | None]]:
        fetched = self._source.fetch(list(rows)) if rows else []
        return [pool.submit(self._one, row, each) for row, each in zip(rows, fetched, strict=True)]

    def _one(self, row: int, fetched: Any) -> ReadImage | None:
        try:
            with self._memory.hold(self._source.pixels_in_memory(fetched)):
                raw = self._source.decode(fetched)
            pixels, changes = self._fitted(raw.pixels)
        except UnreadableImageError as error:
            self.found.unreadable[row] = str(error)
            return None
        self.found.bits_used[row] = raw.bits_used
        digest = hashlib.sha256(pixels.data).hexdigest()
        return ReadImage(pixels, raw.sha256, digest, thumbnail(pixels) if self._thumbnails else None, changes)

    def _fitted(self, pixels: Pixels) -> tuple[Pixels, tuple[str, ...]]:
        """In the model's channels and type, and what was changed for it."""
        channels, changes = self._config.channels, []
        if pixels.shape[2] != channels:
            changes.append(
                "converted from colour to grey, as the model was trained on grey images"
                if channels == 1
                else "converted from grey to three equal channels, as the model was trained on colour images"
            )
            pixels = with_channels(pixels, channels)
        if pixels.dtype == np.uint16 and self._dtype == np.uint8:
            changes.append("converted from 16 to 8 bits, as the model was trained on images of 8 bits")
            pixels = (pixels >> 8).astype(np.uint8)
        elif pixels.dtype != self._dtype:
            changes.append("converted from 8 to 16 bits, as the model was trained on images of 16 bits")
            pixels = with_type(pixels, self._dtype)
        return np.ascontiguousarray(pixels), tuple(changes)


class RowImages:
    """Images of rows, read when they are asked for: stands where an array (n, s, s, c) is indexed."""

    def __init__(self, reader: Reader, rows: NDArray[np.int64]) -> None:
        self._reader, self._rows = reader, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, which: int | Sequence[int]) -> NDArray[Any]:
        if isinstance(which, (int, np.integer)):
            image: NDArray[Any] = self._reader.images([int(self._rows[which])])[0]
            return image
        return self._reader.images(self._rows[list(which)].tolist())
