"""What sources of image files have in common."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Condition

import numpy as np

from medfathom.data.images import MAX_PIXELS, Header, UnreadableImageError, decode, read_bytes, read_header
from medfathom.data.labels import Labels
from medfathom.data.sources.base import Listing, Problem, RawImage, Source
from medfathom.definitions.dataset import CsvDataset, FolderDataset
from medfathom.errors import DataError

HEADERS_AT_ONCE = 64
"""Files that a thread looks at in one task: handing over a task costs more than reading a header."""


class FileSource(Source):
    """Image files: all headers are read for the listing, then the pixels file by file."""

    def __init__(self, config: FolderDataset | CsvDataset) -> None:
        self._config = config
        self._files: list[tuple[Path, int]] = []
        self._channels = 1
        self._dtype: np.dtype[np.uint8 | np.uint16] = np.dtype(np.uint8)
        self._memory = MemoryGate(MAX_PIXELS)

    def fetch(self, rows: Sequence[int]) -> list[tuple[Path, int]]:
        """The file and its number of pixels."""
        return [self._files[row] for row in rows]

    def decode(self, fetched: tuple[Path, int]) -> RawImage:
        """Read, hash and decode one file."""
        path, n_pixels = fetched
        content = read_bytes(path)
        with self._memory.hold(n_pixels):
            image = decode(
                content,
                self._channels,
                self._dtype,
                bits=self._config.bits,
                size=self._config.image_size,
                fit=self._config.fit,
            )
        return RawImage(
            image.pixels, image.width, image.height, hashlib.sha256(content).hexdigest(), len(content)
        )

    def _list_files(
        self,
        paths: Sequence[Path],
        names: Sequence[str],
        labels: Labels,
        splits: Sequence[str],
        groups: Sequence[str | None] | None,
        problems: Sequence[Problem],
        notes: Sequence[str] = (),
    ) -> Listing:
        """Read every file's header; a file that cannot be used becomes a problem."""
        slices = [paths[start : start + HEADERS_AT_ONCE] for start in range(0, len(paths), HEADERS_AT_ONCE)]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            headers = [header for part in pool.map(_headers, slices) for header in part]
        problems = [*problems, *labels.problems]
        good = labels.good.copy()
        for row, header in enumerate(headers):
            reason = header if isinstance(header, str) else None
            if groups is not None and groups[row] is None:
                reason = reason or "no group: dataset.group_pattern or group_column finds none"
            if reason is not None and good[row]:
                problems.append(Problem(names[row], reason))
                good[row] = False
        kept = np.flatnonzero(good).tolist()
        found = [header for row in kept if isinstance(header := headers[row], Header)]
        self._channels, self._dtype = self._form(found)
        self._files = [
            (paths[row], header.width * header.height) for row, header in zip(kept, found, strict=True)
        ]
        return Listing(
            names=[names[row] for row in kept],
            labels=labels.values[kept],
            splits=np.array([splits[row] for row in kept], dtype=np.str_),
            groups=None if groups is None else np.array([groups[row] for row in kept], dtype=np.str_),
            task=labels.task,
            class_names=labels.class_names,
            channels=self._channels,
            dtype=self._dtype,
            problems=problems,
            notes=notes,
        )

    def _form(self, headers: Sequence[Header]) -> tuple[int, np.dtype[np.uint8 | np.uint16]]:
        """The channels and the type that can hold every file."""
        wanted = self._config.channels
        channels = (3 if any(h.colour for h in headers) else 1) if wanted == "auto" else wanted
        return channels, np.dtype(np.uint16 if any(h.deep for h in headers) else np.uint8)

    def _groups_from_names(self, names: Sequence[str]) -> list[str | None] | None:
        if self._config.group_pattern is None:
            return None
        pattern = re.compile(self._config.group_pattern)
        matches = [pattern.search(name) for name in names]
        return [match.group(1) if match else None for match in matches]


def _headers(paths: Sequence[Path]) -> list[Header | str]:
    """Each file's header, or the reason why it cannot be read."""
    found: list[Header | str] = []
    for path in paths:
        try:
            found.append(read_header(path))
        except UnreadableImageError as error:
            found.append(str(error))
    return found


class MemoryGate:
    """Limits what threads decode at once, so that memory does not grow with the number of threads."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._held = 0
        self._changed = Condition()

    @contextmanager
    def hold(self, amount: int) -> Iterator[None]:
        """Wait until there is room; an amount larger than the capacity waits until it is alone."""
        with self._changed:
            self._changed.wait_for(lambda: self._held == 0 or self._held + amount <= self._capacity)
            self._held += amount
        try:
            yield
        finally:
            with self._changed:
                self._held -= amount
                self._changed.notify_all()


def file_signature(path: Path) -> str:
    """Path, size and time of a file, or that it is absent."""
    try:
        facts = path.stat()
    except OSError:
        return f"{path} absent"
    return f"{path} {facts.st_size} {facts.st_mtime_ns}"


def existing(path: str, *, folder: bool) -> Path:
    """`dataset.path` as a Path. Raises DataError where it is not there, or no folder (or no file)."""
    found = Path(path).expanduser().absolute()
    if not found.exists():
        raise DataError(f"dataset.path: {found} is not there")
    if found.is_dir() != folder:
        kinds = ("a folder", "a file") if folder else ("a file", "a folder")
        raise DataError(f"dataset.path: {found} is {kinds[1]}; {kinds[0]} is expected")
    return found
