"""Decode all images of a source in parallel, straight to their place in the arrays; continue a killed run.

The journal has a line for each finished chunk; a run that continues compares every image in it with its hash.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medfathom.data.arrays import ArrayFile
from medfathom.data.images import MAX_PIXELS, Pixels
from medfathom.data.prepared import SPLIT_NAMES, array_file
from medfathom.data.sources.base import Listing, Problem, Source
from medfathom.data.workers import Filler, Item, MemoryGate, Outcome, Processes, Row
from medfathom.definitions.dataset import DatasetConfig
from medfathom.machine import cpus

JOURNAL_FILE = "journal.jsonl"
"""In the folder of the arrays while they are being filled."""

CHUNK_ROWS = 256
"""Images in a line of the journal, at most."""

PART_ROWS = 16
"""Images in one task of a thread or process: handing over a task costs as much as a small image."""

PROCESS_ROWS = 4000
"""From so many images on processes are worth their start, where the source's work can be handed to them."""

CHUNK_BYTES = 2**25
"""Undecoded images held in memory for one chunk, at most; two chunks are being decoded at once."""


Fill = Callable[[Sequence[Item]], list[Outcome]]


class Decoder:
    """Fills `{split}_images.npy` in a folder."""

    def __init__(
        self, source: Source, listing: Listing, splits: NDArray[np.str_], config: DatasetConfig, folder: Path
    ) -> None:
        self._source, self._listing, self._config = source, listing, config
        self._splits = splits
        self._shape = (config.image_size, config.image_size, listing.channels)
        self._memory = MemoryGate(MAX_PIXELS)
        self._position = np.zeros(len(listing), dtype=np.int64)
        self._arrays = {}
        for split in SPLIT_NAMES:
            rows = np.flatnonzero(splits == split)
            self._position[rows] = np.arange(len(rows))
            self._arrays[str(split)] = ArrayFile(
                array_file(folder, split, "images"), (len(rows), *self._shape), listing.dtype
            )
        self._journal = Journal(folder / JOURNAL_FILE, _identity(listing, splits))

    def run(self, progress: Callable[[int, int], None]) -> list[Outcome]:
        """Decode what is not decoded yet.

        Args:
            progress: called with the number of images done and of all.

        Returns:
            For each row of the listing what is known of it, or why it cannot be used.
        """
        outcomes: dict[int, Outcome] = dict(self._still_there())
        chunks = [chunk for chunk in self._chunks() if not all(row in outcomes for row in chunk)]
        progress(len(outcomes), len(self._listing))
        with (
            self._filling(sum(map(len, chunks))) as fill,
            ThreadPoolExecutor(cpus()) as pool,
            ThreadPoolExecutor(1) as flusher,
        ):
            flushing = flusher.submit(self.flush)
            for chunk, futures in self._submitted(pool, fill, chunks):
                results = [outcome for future in futures for outcome in future.result()]
                if flushing.done():  # while others decode, so that the last flush has little left to do
                    flushing = flusher.submit(self.flush)
                self._journal.add(chunk, results)
                outcomes.update(zip(chunk, results, strict=True))
                progress(len(outcomes), len(self._listing))
        return [outcomes[row] for row in range(len(self._listing))]

    def image(self, row: int) -> Pixels:
        """The prepared image of a row that was decoded."""
        stored = self._arrays[self._splits[row]].read(int(self._position[row]))
        return np.frombuffer(stored, self._listing.dtype).reshape(self._shape)

    def arrange(self, kept: Sequence[int], splits: NDArray[np.str_]) -> None:
        """Leave out the other images, and put these into these splits, in the listing's order.

        A split that only loses images is changed in place; others are written again.
        """
        rows = np.asarray(kept, dtype=np.int64)
        written: dict[str, ArrayFile] = {}
        for split in self._arrays:
            wanted = rows[splits == split]
            if (self._splits[wanted] != split).any():
                written[split] = self._copied(split, wanted.tolist())
        for split, array in self._arrays.items():
            if split not in written:
                array.keep(self._position[rows[splits == split]].tolist())
        for split, array in written.items():
            array.replace(self._arrays[split])
            self._arrays[split] = array

    def _copied(self, split: str, rows: Sequence[int]) -> ArrayFile:
        """A new file with these rows, beside the split's file."""
        path = self._arrays[split].path.with_suffix(".new.npy")
        array = ArrayFile(path, (len(rows), *self._shape), self._listing.dtype)
        for position, row in enumerate(rows):
            array.write(position, self.image(row))
        array.flush()
        return array

    def flush(self) -> None:
        """Wait until everything is on the disk."""
        for array in self._arrays.values():
            array.flush()

    def close(self) -> None:
        """Close all files."""
        self._journal.close()
        for array in self._arrays.values():
            array.close()

    def _chunks(self) -> Iterator[range]:
        n = len(self._listing)
        rows = CHUNK_ROWS
        if self._source.row_bytes:
            rows = min(CHUNK_ROWS, max(1, CHUNK_BYTES // self._source.row_bytes))
        return (range(start, min(start + rows, n)) for start in range(0, n, rows))

    @contextmanager
    def _filling(self, n_images: int) -> Iterator[Fill]:
        """What threads call: decoding in themselves, or in processes where that is faster."""
        here = Filler(self._source.decode, self._arrays, self._listing.dtype)
        portable = self._source.portable_decode()
        if portable is None or n_images < PROCESS_ROWS or cpus() < 2:
            yield here.fill
            return
        processes = Processes(replace(here, decode=portable).fill, here.fill)
        try:
            yield processes.call
        finally:
            processes.close()

    def _submitted(
        self, pool: ThreadPoolExecutor, fill: Fill, chunks: Sequence[range]
    ) -> Iterator[tuple[range, list[Future[list[Outcome]]]]]:
        """Each chunk once the next is being decoded, so that no thread waits for the slowest of a chunk."""
        waiting: tuple[range, list[Future[list[Outcome]]]] | None = None
        for chunk in chunks:
            items = [
                Item(self._listing.names[row], fetched, str(self._splits[row]), int(self._position[row]))
                for row, fetched in zip(chunk, self._source.fetch(chunk), strict=True)
            ]
            parts = [items[start : start + PART_ROWS] for start in range(0, len(items), PART_ROWS)]
            futures = [pool.submit(self._part, fill, part) for part in parts]
            if waiting is not None:
                yield waiting
            waiting = chunk, futures
        if waiting is not None:
            yield waiting

    def _part(self, fill: Fill, items: Sequence[Item]) -> list[Outcome]:
        largest = max(self._source.pixels_in_memory(item.fetched) for item in items)
        with self._memory.hold(largest):
            return fill(items)

    def _still_there(self) -> Iterator[tuple[int, Outcome]]:
        """What an earlier run decoded, if its pixels are on the disk: after a power cut they may not be."""
        for row, outcome in self._journal.earlier:
            if isinstance(outcome, Row):
                stored = self._arrays[self._splits[row]].read(int(self._position[row]))
                if hashlib.sha256(stored).hexdigest() != outcome.pixels_sha256:
                    continue
            yield row, outcome


class Journal:
    """A line for each chunk that is done; the first line is the identity of all chunks."""

    def __init__(self, path: Path, identity: str) -> None:
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        # A line without its end was being written when the run was killed.
        whole = [json.loads(line) for line in lines if line.endswith(b"\n")]
        self.earlier: list[tuple[int, Outcome]] = []
        if whole[:1] == [identity]:
            self.earlier = [
                (row, _read(fields))
                for rows, chunk in whole[1:]
                for row, fields in zip(rows, chunk, strict=True)
            ]
        self._file = path.open("w", encoding="utf-8")
        self._write(identity)
        if self.earlier:
            self.add([row for row, _ in self.earlier], [outcome for _, outcome in self.earlier])

    def add(self, rows: Sequence[int], outcomes: Sequence[Outcome]) -> None:
        """Record a chunk."""
        self._write([list(rows), [_fields(outcome) for outcome in outcomes]])

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, content: object) -> None:
        self._file.write(json.dumps(content) + "\n")
        self._file.flush()


def _fields(outcome: Outcome) -> tuple[Any, ...]:
    return outcome.fields() if isinstance(outcome, Row) else (outcome.name, outcome.reason)


def _read(fields: Sequence[Any]) -> Outcome:
    return Problem(*fields) if len(fields) == 2 else Row(*fields)


def _identity(listing: Listing, splits: NDArray[np.str_]) -> str:
    """A hash of the images, their order and their splits: a journal with another one is not used."""
    content = json.dumps([list(listing.names), splits.tolist()])
    return hashlib.sha256(content.encode()).hexdigest()
