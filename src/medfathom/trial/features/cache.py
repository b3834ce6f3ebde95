"""Features of frozen prefixes on disk: computed once, read by every epoch, trial and process.

An entry is named after what its content follows from (`key_digest`), and is two files: `<digest>.bin`, the
raw array, and `<digest>.json`, its shape, type and checksums, which is written last and by rename: an entry
without it does not exist. An entry is checked once by each process that opens it; one that is torn is removed
and built anew.

Processes that want the same entry build it together: its rows are cut into shards, each is computed by
whoever locks it first into its place in `<digest>.part`, and the receipt `<digest>.<shard>.done` says that it
is there. Locks are advisory file locks, which the system drops with the process that held them: a killed
builder blocks nobody, and what it had finished stays.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from medfathom.files import write_atomically

Array = NDArray[np.generic]

MOST_SHARDS = 64

ABANDONED_SECONDS = 3600.0
"""A build that nobody has written to for so long may be removed to make room."""

_checked: set[tuple[str, int, int]] = set()
"""Entries that this process has checked: (path, inode, time of change in ns)."""


@dataclass(frozen=True)
class Content:
    """What is to be written as an entry."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    rows: Callable[[int, int], Array]
    """Computes the rows from a start to before a stop."""
    alignment: int = 1
    """Starts are multiples of it."""

    @property
    def n_bytes(self) -> int:
        """Size of the whole array."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    @property
    def shard_rows(self) -> int:
        """Rows in each shard but perhaps the last."""
        blocks = -(-self.shape[0] // self.alignment)
        return self.alignment * -(-blocks // MOST_SHARDS)

    @property
    def shards(self) -> list[tuple[int, int]]:
        """Start and stop of each shard."""
        n, step = self.shape[0], self.shard_rows
        return [(start, min(start + step, n)) for start in range(0, n, step)]


@dataclass(frozen=True)
class Entry:
    """An opened entry."""

    array: Array
    """Memory-mapped, read-only."""
    built: bool
    """Whether this call built it, or a part of it."""


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
        return self._file(key_digest(key), "json").is_file()

    def open_or_build(self, key: Mapping[str, Any], describe: Callable[[], Content]) -> Entry:
        """The entry, built, together with others who want it, unless it is there.

        Raises:
            OSError: it could not be written (disk full, no permission). Nothing half-written stays behind.
        """
        digest = key_digest(key)
        array = self._open(digest)
        if array is not None:
            return Entry(array, built=False)
        self.folder.mkdir(parents=True, exist_ok=True)
        content = describe()
        for _ in range(2):  # twice: what an earlier build left in its part may turn out to be torn
            try:
                self._build(digest, key, content)
            except OSError:
                self._remove_build(digest)
                raise
            array = self._open(digest)
            if array is not None:
                return Entry(array, built=True)
        raise OSError(
            f"{self._file(digest, 'bin')}: what was read back differs from what was written; check the disk"
        )

    def make_room(self, n_bytes: int, keep: str = "") -> None:
        """Remove the least recently used entries until `n_bytes` more are within the limit."""
        with FileLock(self.folder / "evict.lock"):
            self._remove_abandoned(keep)
            entries = sorted((file.stat().st_mtime_ns, file) for file in self.folder.glob("*.json"))
            sizes = {file: _size(file.with_suffix(".bin")) for _, file in entries}
            total = sum(sizes.values()) + sum(_size(file) for file in self.folder.glob("*.part"))
            for _, file in entries:
                if total + n_bytes <= self.limit_bytes:
                    return
                self._remove(file.stem)
                total -= sizes[file]

    def _file(self, digest: str, kind: str) -> Path:
        return self.folder / f"{digest}.{kind}"

    def _lock(self, digest: str) -> FileLock:
        # 256 locks for all entries: lock files cannot be removed without races, and must not grow in number.
        return FileLock(self.folder / f"{digest[:2]}.lock")

    def _open(self, digest: str) -> Array | None:
        manifest, data = self._file(digest, "json"), self._file(digest, "bin")
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

    def _remove(self, digest: str) -> None:
        # The manifest first: what is left in between is no entry. Processes that have it mapped keep their
        # pages.
        self._file(digest, "json").unlink(missing_ok=True)
        self._file(digest, "bin").unlink(missing_ok=True)

    def _remove_build(self, digest: str) -> None:
        for file in (*self.folder.glob(f"{digest}.*.done"), *self.folder.glob(f"{digest}.*.lock")):
            file.unlink(missing_ok=True)
        self._file(digest, "part").unlink(missing_ok=True)

    def _remove_abandoned(self, keep: str) -> None:
        for file in self.folder.glob("*.part"):
            if file.stem != keep and time.time() - file.stat().st_mtime > ABANDONED_SECONDS:
                self._remove_build(file.stem)

    def _build(self, digest: str, key: Mapping[str, Any], content: Content) -> None:
        with self._lock(digest):
            if self._file(digest, "json").is_file():
                return
            self._begin(digest, content)
        self._compute_shards(digest, content)
        with self._lock(digest):
            if not self._file(digest, "json").is_file():
                self._finish(digest, key, content)

    def _begin(self, digest: str, content: Content) -> None:
        """Reserve the space, so that a full disk shows before the work; go on with what is there already."""
        part = self._file(digest, "part")
        if _size(part) == content.n_bytes:
            return
        self._remove_build(digest)
        self.make_room(content.n_bytes, keep=digest)
        with part.open("wb") as file:
            if hasattr(os, "posix_fallocate") and content.n_bytes:
                os.posix_fallocate(file.fileno(), 0, content.n_bytes)
            elif shutil.disk_usage(self.folder).free < content.n_bytes:
                raise OSError(28, "No space left on device", str(part))
            else:
                file.truncate(content.n_bytes)

    def _compute_shards(self, digest: str, content: Content) -> None:
        """Compute what nobody else computes, then wait for the others (and take over from one that died)."""
        wait = False
        while True:
            missing = [k for k in range(len(content.shards)) if not self._file(digest, f"{k}.done").is_file()]
            if not missing or self._file(digest, "json").is_file():
                return
            for shard in missing:
                try:
                    with FileLock(self._file(digest, f"{shard}.lock"), timeout=-1 if wait else 0):
                        self._compute_shard(digest, shard, content)
                except Timeout:
                    continue
                if wait:
                    break
            wait = True

    def _compute_shard(self, digest: str, shard: int, content: Content) -> None:
        done = self._file(digest, f"{shard}.done")
        if done.is_file() or self._file(digest, "json").is_file():
            return
        start, stop = content.shards[shard]
        rows = np.ascontiguousarray(content.rows(start, stop), dtype=content.dtype)
        if rows.shape != (stop - start, *content.shape[1:]):
            raise ValueError(f"rows {start} to {stop} of {content.shape} were wanted, but {rows.shape} came")
        raw = rows.view(np.uint8).reshape(-1)
        with self._file(digest, "part").open("r+b") as file:
            file.seek(start * (content.n_bytes // content.shape[0]))
            file.write(raw.data)
        # Not synced, like the rows themselves: 64 waits would double the time of a small build, and an entry
        # that a power cut tore is found by its checksums.
        write_atomically(done, hashlib.sha256(raw.data).hexdigest(), sync=False)

    def _finish(self, digest: str, key: Mapping[str, Any], content: Content) -> None:
        receipts = [self._file(digest, f"{k}.done").read_text() for k in range(len(content.shards))]
        facts = {
            "key": dict(key),
            "shape": list(content.shape),
            "dtype": content.dtype.str,
            "bytes": content.n_bytes,
            "shard_bytes": content.shard_rows * (content.n_bytes // content.shape[0]),
            "sha256": receipts,
        }
        self._file(digest, "part").replace(self._file(digest, "bin"))
        write_atomically(self._file(digest, "json"), json.dumps(facts), sync=False)
        self._remove_build(digest)


def _is_whole(data: Path, facts: Mapping[str, Any]) -> bool:
    """Whether the file has its manifest's size and checksums; read once for each process and file."""
    stat = data.stat()
    identity = (str(data), stat.st_ino, stat.st_mtime_ns)
    if stat.st_size != facts["bytes"]:
        return False
    if identity not in _checked:
        with data.open("rb") as file:
            for receipt in facts["sha256"]:
                if hashlib.sha256(file.read(facts["shard_bytes"])).hexdigest() != receipt:
                    return False
        _checked.add(identity)
    return True


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0
