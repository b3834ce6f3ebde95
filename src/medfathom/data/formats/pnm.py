"""PGM and PPM, binary (P5, P6) and in plain text (P2, P3)."""

from __future__ import annotations

import re
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from medfathom.data.pixels import Header, Opened, Samples, UnreadableImageError

_GAP = rb"(?:\s|#[^\n]*\n)+"
_START = re.compile(rb"P([2356])" + _GAP + rb"(\d+)" + _GAP + rb"(\d+)" + _GAP + rb"(\d+)(?:#[^\n]*\n|\s)")
"""Kind, width, height, the value of white; then one blank, then the pixels."""


def header(file: BinaryIO) -> Header:
    """Raises UnreadableImageError."""
    file.seek(0)
    return _read(file.read(4096))[0]


def opened(content: bytes) -> Opened:
    """Raises UnreadableImageError."""
    found, start = _read(content)
    white = int(start[4])

    def samples(_: int) -> Samples:
        shape = (found.height, found.width, 3 if found.colour else 1)
        values = _values(
            content[start.end() :], int(np.prod(shape)), plain=start[1] in b"23", deep=white > 255
        )
        if len(values) < np.prod(shape):
            raise UnreadableImageError(f"truncated ({len(values):,} of {int(np.prod(shape)):,} values)")
        return Samples(values.reshape(shape), white)

    return Opened(found, samples)


def _values(content: bytes, n: int, *, plain: bool, deep: bool) -> NDArray[Any]:
    """n unsigned values, or as many as there are."""
    if plain:
        words = re.sub(rb"#[^\n]*", b" ", content).split()[:n]
        return np.array(words, dtype=np.int64).astype(np.uint16 if deep else np.uint8)
    dtype = np.dtype(">u2" if deep else "u1")
    n_there = min(n, len(content) // dtype.itemsize)
    return np.frombuffer(content, dtype, n_there).astype(dtype.newbyteorder("="))


def _read(content: bytes) -> tuple[Header, re.Match[bytes]]:
    start = _START.match(content)
    if start is None:
        raise UnreadableImageError("damaged or truncated (a PGM or PPM file without a valid header)")
    white = int(start[4])
    if not 0 < white < 65536:
        raise UnreadableImageError(f"damaged (a PGM or PPM file whose white is {white})")
    return Header(int(start[2]), int(start[3]), start[1] in b"36", deep=white > 255), start
