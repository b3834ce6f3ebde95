"""Features of frozen prefixes on disk: computed once, read by every epoch, trial and process.

An entry is named after what its content follows from (`key_digest`), and is two files: `<digest>.bin`, the
raw array, and `<digest>.json`, its shape, type, size and checksum, which is written last and by rename: an
entry without it does not exist. An entry is checked once by each process that opens it; one that is torn is
removed and built anew.

Locks are advisory file locks, which the system drops with the process that held them: a killed builder blocks
nobody.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

Array = NDArray[np.generic]

_checked: set[tuple[str, int, int]] = set()
"""Entries that this process has checked: (path, inode, time of change in ns)."""

CHUNK_BYTES = 2**22


@dataclass(frozen=True)
class Content:
    """What is to be written as an entry."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: Iterable[Array]
    """Consecutive rows."""


@dataclass(frozen=True)
class Entry:
    """An opened entry."""

    array: Array
    """Memory-mapped, read-only."""
    built: bool
    """Whether this call built it."""


def key_digest(key: Mapping[str, Any]) -> str:
    """SHA-256 over a key's JSON, hexadecimal."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()


class FeatureCache:
    """A folder of entries, bounded in bytes; the least recently used go first."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes

    def has(self, key: Mapping[str, Any]) -> bool:
        """Whether an entry seems to be there (it is checked when opened)."""
        return self._manifest(key_digest(key)).is_file()

    def open_or_build(self, key: Mapping[str, Any], compute: Callable[[], Content]) -> Entry:
        """The entry, computed unless it is there; processes that want the same one wait for the builder.

        Raises:
            OSError: it could not be written (disk full, no permission). Nothing half-written stays behind.
        """
        digest = key_digest(key)
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / f"{digest}.lock"):
            array = self._open(digest)
            if array is not None:
                return Entry(array, built=False)
            self._build(digest, key, compute())
            array = self._open(digest)
        if array is None:
            raise OSError(f"{self.folder / digest}.bin: written, but it reads back otherwise; check the disk")
        return Entry(array, built=True)

    def make_room(self, n_bytes: int, keep: str = "") -> None:
        """Remove the least recently used entries until `n_bytes` more are within the limit."""
        with FileLock(self.folder / "evict.lock"):
            entries = sorted((file.stat().st_mtime_ns, file) for file in self.folder.glob("*.json"))
            sizes = {file: _size(file.with_suffix(".bin")) for _, file in entries}
            total = sum(sizes.values())
            for _, file in entries:
                if total + n_bytes <= self.limit_bytes:
                    return
                if file.stem != keep:
                    self._remove(file.stem)
                    total -= sizes[file]

    def _manifest(self, digest: str) -> Path:
        return self.folder / f"{digest}.json"

    def _remove(self, digest: str) -> None:
        # The manifest first: what is left in between is no entry. Processes that have it mapped keep their
        # pages.
        self._manifest(digest).unlink(missing_ok=True)
        (self.folder / f"{digest}.bin").unlink(missing_ok=True)

    def _open(self, digest: str) -> Array | None:
        manifest, data = self._manifest(digest), self.folder / f"{digest}.bin"
        try:
            facts = json.loads(manifest.read_text())
            array: Array = np.memmap(data, np.dtype(facts["dtype"]), "r", shape=tuple(facts["shape"]))
            if not _is_whole(data, facts):
                raise ValueError("checksum")
            os.utime(manifest)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            self._remove(digest)
            return None
        return array

    def _build(self, digest: str, key: Mapping[str, Any], content: Content) -> None:
        shape, dtype = content.shape, content.dtype
        n_bytes = int(np.prod(shape)) * dtype.itemsize
        for orphan in self.folder.glob(f"{digest}.*.part"):
            orphan.unlink(missing_ok=True)
        self.make_room(n_bytes, keep=digest)
        part = self.folder / f"{digest}.{os.getpid()}.part"
        try:
            checksum = _write(part, n_bytes, content)
            part.replace(self.folder / f"{digest}.bin")
            facts = {
                "key": dict(key),
                "shape": list(shape),
                "dtype": dtype.str,
                "bytes": n_bytes,
                "sha256": checksum,
            }
            part.write_text(json.dumps(facts))
            part.replace(self._manifest(digest))
        finally:
            part.unlink(missing_ok=True)


def _write(path: Path, n_bytes: int, content: Content) -> str:
    """Write the chunks' bytes; their SHA-256. Space is reserved first: a full disk shows before the work."""
    hashed = hashlib.sha256()
    with path.open("wb") as file:
        if hasattr(os, "posix_fallocate") and n_bytes:
            os.posix_fallocate(file.fileno(), 0, n_bytes)
        elif shutil.disk_usage(path.parent).free < n_bytes:
            raise OSError(28, "No space left on device", str(path))
        for chunk in content.chunks:
            raw = np.ascontiguousarray(chunk, dtype=content.dtype).view(np.uint8).data
            hashed.update(raw)
            file.write(raw)
        if file.tell() != n_bytes:
            raise ValueError(f"{path}: {n_bytes} bytes were announced, but {file.tell()} came")
    return hashed.hexdigest()


def _is_whole(data: Path, facts: Mapping[str, Any]) -> bool:
    """Whether the file has its manifest's size and checksum; read once for each process and file."""
    stat = data.stat()
    identity = (str(data), stat.st_ino, stat.st_mtime_ns)
    if stat.st_size != facts["bytes"]:
        return False
    if identity not in _checked:
        with data.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != facts["sha256"]:
                return False
        _checked.add(identity)
    return True


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0
