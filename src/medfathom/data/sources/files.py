"""What sources of image files have in common."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medfathom.data.images import Fit, Header, UnreadableImageError, decode, read_bytes, read_header
from medfathom.data.labels import Labels
from medfathom.data.sources.base import Ignored, Listing, Problem, RawImage, Source
from medfathom.data.sources.cases import FileRows, images_of_cases
from medfathom.data.workers import Processes
from medfathom.definitions.dataset import CsvDataset, FolderDataset
from medfathom.errors import DataError
from medfathom.text import printable

HEADERS_AT_ONCE = 64
"""Files that a thread looks at in one task: handing over a task costs more than reading a header."""


PROCESS_HEADERS = 20_000
"""From so many files on processes are worth their start, only to look at them."""


@dataclass(frozen=True)
class FileDecoder:
    """Reads, hashes and decodes image files into one form; the fields as in `images.decode`."""

    channels: int
    dtype: np.dtype[np.uint8 | np.uint16]
    bits: int
    size: int
    fit: Fit

    def __call__(self, fetched: tuple[Path, int]) -> RawImage:
        """Decode a file, given with its number of pixels. Raises UnreadableImageError."""
        content = read_bytes(fetched[0])
        image = decode(content, self.channels, self.dtype, bits=self.bits, size=self.size, fit=self.fit)
        return RawImage(
            image.pixels,
            image.width,
            image.height,
            hashlib.sha256(content).hexdigest(),
            len(content),
            image.bits_used,
        )


class FileSource(Source):
    """Image files: all headers are read for the listing, then the pixels file by file."""

    root: Path
    """Where the paths of its images start."""

    def __init__(self, config: FolderDataset | CsvDataset) -> None:
        self._config = config
        self._files: list[tuple[Path, int]] = []
        self._decode = FileDecoder(1, np.dtype(np.uint8), config.bits, config.image_size, config.fit)

    def fetch(self, rows: Sequence[int]) -> list[tuple[Path, int]]:
        """The file and its number of pixels."""
        return [self._files[row] for row in rows]

    def decode(self, fetched: tuple[Path, int]) -> RawImage:
        """Read, hash and decode one file."""
        return self._decode(fetched)

    def portable_decode(self) -> FileDecoder:
        """Files can be read by any process."""
        return self._decode

    def pixels_in_memory(self, fetched: tuple[Path, int]) -> int:
        """Of the whole image."""
        return fetched[1]

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
        headers = _all_headers(paths)
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
        channels, dtype = self._form(found)
        self._decode = replace(self._decode, channels=channels, dtype=dtype)
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
            channels=channels,
            dtype=dtype,
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


def _all_headers(paths: Sequence[Path]) -> list[Header | str]:
    """Each file's header, or the reason why it cannot be read; in threads, or in processes where many."""
    slices = [paths[start : start + HEADERS_AT_ONCE] for start in range(0, len(paths), HEADERS_AT_ONCE)]
    processes = Processes(_headers, _headers)
    try:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            read = processes.call if len(paths) >= PROCESS_HEADERS else _headers
            return [header for part in pool.map(read, slices) for header in part]
    finally:
        processes.close()


def _headers(paths: Sequence[Path]) -> list[Header | str]:
    """Each file's header, or the reason why it cannot be read."""
    found: list[Header | str] = []
    for path in paths:
        try:
            found.append(read_header(path))
        except UnreadableImageError as error:
            found.append(str(error))
    return found


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
