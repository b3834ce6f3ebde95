"""npy files that are filled row by row, from many threads, without a memory map.

Pages written through a memory map count as the process's memory until they are flushed; plain writes do not.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from medfathom.errors import RunError
from medfathom.files import write_atomically


class ArrayFile:
    """An npy file of known shape. Rows may be written in any order, from any thread.

    A file that is there already is kept if it has the same shape, type and size, else replaced.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.path, self._shape, self._dtype = path, shape, dtype
        self._row_bytes = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
        header = _header(shape, dtype)
        self._start = len(header)
        n_bytes = self._start + shape[0] * self._row_bytes
        if not _has(path, header, n_bytes):
            with path.open("wb") as file:
                file.write(header)
                file.truncate(n_bytes)
        self._descriptor = os.open(path, os.O_RDWR)

    def __reduce__(self) -> tuple[Any, ...]:
        """Opened again in another process."""
        return ArrayFile, (self.path, self._shape, self._dtype)

    def write(self, row: int, values: NDArray[Any]) -> None:
        """Write one row."""
        content = np.ascontiguousarray(values, dtype=self._dtype).data.cast("B")
        self._write(content, self._start + row * self._row_bytes)

    def read(self, row: int) -> bytes:
        """One row's bytes."""
        return os.pread(self._descriptor, self._row_bytes, self._start + row * self._row_bytes)

    def keep(self, rows: Sequence[int]) -> None:
        """Keep only these rows (sorted), each moved up in place.

        When it is killed half-way, the file has the old shape with some rows overwritten, or no valid shape.
        """
        for position, row in enumerate(rows):
            if position != row:
                self._write(memoryview(self.read(row)), self._start + position * self._row_bytes)
        self._shape = (len(rows), *self._shape[1:])
        os.ftruncate(self._descriptor, self._start + len(rows) * self._row_bytes)
        # numpy leaves room in the header for any number of rows: it is as long as before.
        self._write(memoryview(_header(self._shape, self._dtype)), 0)

    def replace(self, other: ArrayFile) -> None:
        """Take the place of another file, which is closed."""
        other.close()
        self.path = self.path.replace(other.path)

    def flush(self) -> None:
        """Wait until everything is on the disk."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def _write(self, content: memoryview, at: int) -> None:
        written = 0
        while written < len(content):
            written += os.pwrite(self._descriptor, content[written:], at + written)


def save_array(path: Path, values: NDArray[Any]) -> None:
    """Write a whole array as an npy file, atomically."""
    content = BytesIO()
    np.save(content, values, allow_pickle=False)
    write_atomically(path, content.getvalue())


def _header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    """The header of an npy file of this shape and type."""
    content = BytesIO()
    npy.write_array_header_2_0(
        content, {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    )
    return content.getvalue()


def _has(path: Path, header: bytes, n_bytes: int) -> bool:
    """Whether there is a file with this header and size."""
    if not path.exists() or path.stat().st_size != n_bytes:
        return False
    with path.open("rb") as file:
        return file.read(len(header)) == header


def check_space(partial: Path, n_bytes: int) -> None:
    """Raise RunError where there is no room for arrays of this size, less what lies in the folder already."""
    # Blocks of 512 bytes on the disk: arrays that are not filled yet have their full size, but no blocks.
    needed = n_bytes - sum(file.stat().st_blocks * 512 for file in partial.glob("*_images.npy"))
    free = shutil.disk_usage(partial.parent).free
    if needed > free:
        raise RunError(
            f"{partial.parent}: {_size(needed)} are needed, {_size(free)} are free; free some, "
            "or set MEDFATHOM_STORAGE to another folder"
        )


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.1f} GiB" if n_bytes >= 2**30 else f"{n_bytes / 2**20:.1f} MiB"
