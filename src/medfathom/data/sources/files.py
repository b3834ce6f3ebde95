"""What sources of image files have in common."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Condition

import numpy as np
from numpy.typing import NDArray

from medfathom.data.images import MAX_PIXELS, Header, UnreadableImageError, decode, read_bytes, read_header
from medfathom.data.labels import Labels
from medfathom.data.sources.base import Ignored, Listing, Problem, RawImage, Source
from medfathom.data.sources.cases import FileRows, images_of_cases
from medfathom.definitions.dataset import CsvDataset, FolderDataset
from medfathom.errors import DataError
from medfathom.text import printable

HEADERS_AT_ONCE = 64
"""Files that a thread looks at in one task: handing over a task costs more than reading a header."""


class FileSource(Source):
    """Image files: all headers are read for the listing, then the pixels file by file."""

    root: Path
    """Where the paths of its images start."""

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
        cases: Sequence[str | None] | None = None,
        folders: Sequence[str | None] | None = None,
        ignored: Sequence[Ignored] = (),
        notes: Sequence[str] = (),
    ) -> Listing:
        """Read every file's header; a file that cannot be used becomes a problem.

        `cases` and `folders` as in `FileRows`, of use where the unit is not the image.
        """
        rows = FileRows(paths, names, labels, splits, groups, folders or [None] * len(paths), cases)
        if self._config.unit != "image":
            rows = images_of_cases(rows, self._config, self.root)
        return replace(self._list_rows(rows, problems), ignored=ignored, notes=notes)

    def _list_rows(self, rows: FileRows, problems: Sequence[Problem]) -> Listing:
        paths, names, labels, groups = rows.paths, rows.names, rows.labels, rows.groups
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
            splits=_texts(rows.splits, kept),
            groups=None if groups is None else _texts(groups, kept),
            cases=None if self._config.unit == "image" or rows.cases is None else _texts(rows.cases, kept),
            task=labels.task,
            class_names=labels.class_names,
            channels=self._channels,
            dtype=self._dtype,
            problems=problems,
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


def _texts(values: Sequence[str | None], kept: Sequence[int]) -> NDArray[np.str_]:
    return np.array([values[row] for row in kept], dtype=np.str_)


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
    place = printable(str(path))
    try:
        facts = path.stat()
    except OSError:
        return f"{place} absent"
    return f"{place} {facts.st_size} {facts.st_mtime_ns}"


def existing(path: str, *, folder: bool) -> Path:
    """`dataset.path` as a Path. Raises DataError where it is not there, or no folder (or no file)."""
    found = Path(path).expanduser().absolute()
    shown = printable(str(found))
    if not found.exists():
        raise DataError(f"dataset.path: {shown} is not there")
    if found.is_dir() != folder:
        kinds = ("a folder", "a file") if folder else ("a file", "a folder")
        raise DataError(f"dataset.path: {shown} is {kinds[1]}; {kinds[0]} is expected")
    return found
