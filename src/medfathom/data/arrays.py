"""npy files that are filled row by row, from many threads, without a memory map.

Written pages of a memory map count as the process's memory until they are flushed; plain writes do not.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

COPY_ROWS = 256
"""Rows moved at once when an array is compacted."""


class ArrayFile:
    """An npy file of known shape. Rows may be written in any order, from any thread; it is opened, not made
    anew, when it is there already.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._path, self._shape, self._dtype = path, shape, dtype
        self._row_bytes = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
        if not path.exists():
            with path.open("wb") as file:
                npy.write_array_header_2_0(
                    file, {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
                )
                file.truncate(file.tell() + shape[0] * self._row_bytes)
        self._start = path.stat().st_size - shape[0] * self._row_bytes
        self._descriptor = os.open(path, os.O_RDWR)

    def write(self, row: int, values: NDArray[Any]) -> None:
        """Write one row."""
        view = np.ascontiguousarray(values, dtype=self._dtype).data.cast("B")
        written = 0
        while written < len(view):
            written += os.pwrite(
                self._descriptor, view[written:], self._start + row * self._row_bytes + written
            )

    def read(self, row: int) -> bytes:
        """One row's bytes."""
        return os.pread(self._descriptor, self._row_bytes, self._start + row * self._row_bytes)

    def keep(self, rows: Sequence[int]) -> None:
        """Leave only these rows (rising)."""
        beside = self._path.with_suffix(".kept.npy")
        beside.unlink(missing_ok=True)
        compacted = ArrayFile(beside, (len(rows), *self._shape[1:]), self._dtype)
        for position, row in enumerate(rows):
            compacted.write(position, np.frombuffer(self.read(row), self._dtype))
        self.close()
        beside.replace(self._path)
        self._shape, self._start, self._descriptor = compacted._shape, compacted._start, compacted._descriptor

    def flush(self) -> None:
        """Wait until everything is on the disk."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)
