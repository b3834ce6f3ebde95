"""The simplest TIFF files without tifffile, whose header takes longer than the pixels of a small image.

One image of 8 or 16 unsigned bits, grey or RGB, uncompressed and in one piece. Of all others `read` knows
nothing: `tiff` reads them, or refuses them by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct, error, unpack_from
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}

_FORMATS = {1: "B", 3: "H", 4: "I"}
"""Bytes, shorts, longs (TIFF 6.0, section 2)."""

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_OFFSETS, _ORIENTATION, _CHANNELS, _COUNTS, _PLANES, _SAMPLE_FORMAT = 273, 274, 277, 279, 284, 339

_KNOWN = {
    *(_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _OFFSETS, _ORIENTATION, _CHANNELS, _COUNTS),
    *(_PLANES, _SAMPLE_FORMAT, 254, 266, 278, 282, 283, 296, 317),
}
"""These, the kind of subfile, fill order, rows of a strip, resolution and predictor. Any other may matter."""

_UNREAD = {278, 282, 283, 296}
"""Of these, rows of a strip and the resolution: nothing depends on them where the pixels lie in one piece."""

_FIXED = {_COMPRESSION: 1, _PLANES: 1, _SAMPLE_FORMAT: 1, 254: 0, 266: 1, 317: 1}
"""What tags must say, or leave to this default."""

_ZERO_IS_WHITE, _ZERO_IS_BLACK, _RGB = 0, 1, 2


@dataclass(frozen=True)
class Plain:
    """Where the pixels lie, and what they are."""

    width: int
    height: int
    channels: int
    dtype: np.dtype[Any]
    offset: int
    zero_is_white: bool
    orientation: int

    @property
    def end(self) -> int:
        """Bytes of the file up to the last pixel."""
        return self.offset + self.height * self.width * self.channels * self.dtype.itemsize

    @property
    def white(self) -> int:
        """The largest value that the file can hold."""
        return int(2 ** (8 * self.dtype.itemsize) - 1)

    def values(self, content: bytes) -> NDArray[Any]:
        """(h, w, channels), of a content that reaches to `end`."""
        shape = self.height, self.width, self.channels
        flat = np.frombuffer(content, self.dtype, int(np.prod(shape)), self.offset)
        return flat.reshape(shape).astype(self.dtype.newbyteorder("="), copy=False)


def read(content: bytes) -> Plain | None:
    """A file of this kind; None for all others, and where its tags lie beyond the content."""
    order = _ORDERS.get(content[:4])
    if order is None:
        return None
    try:
        tags = _tags(content, order)
    except (error, KeyError):
        return None
    if tags is None or any(set(tags.get(tag, (value,))) != {value} for tag, value in _FIXED.items()):
        return None
    channels, bits = tags.get(_CHANNELS, (1,))[0], set(tags.get(_BITS, (1,)))
    kind = tags.get(_PHOTOMETRIC, (-1,))[0]
    if bits not in ({8}, {16}) or channels != {_ZERO_IS_WHITE: 1, _ZERO_IS_BLACK: 1, _RGB: 3}.get(kind):
        return None
    dtype = np.dtype(np.uint8 if bits == {8} else f"{order}u2")
    height, width = tags[_HEIGHT][0], tags[_WIDTH][0]
    starts, sizes = tags[_OFFSETS], tags[_COUNTS]
    whole = all(a + n == b for a, n, b in zip(starts, sizes, starts[1:], strict=False))
    if not whole or len(starts) != len(sizes) or sum(sizes) != height * width * channels * dtype.itemsize:
        return None
    turn = tags.get(_ORIENTATION, (1,))[0]
    turn = turn if turn in range(1, 9) else 1
    return Plain(width, height, channels, dtype, starts[0], kind == _ZERO_IS_WHITE, turn)


def _tags(content: bytes, order: str) -> dict[int, tuple[int, ...]] | None:
    """The values of every tag of the only image; None where there is a tag or an image more."""
    (start,) = unpack_from(f"{order}I", content, 4)
    (count,) = unpack_from(f"{order}H", content, start)
    (following,) = unpack_from(f"{order}I", content, start + 2 + 12 * count)
    if following:
        return None
    found: dict[int, tuple[int, ...]] = {}
    for at in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, number = unpack_from(f"{order}HHI", content, at)
        if tag not in _KNOWN:
            return None
        if tag in _UNREAD:
            continue
        values = Struct(f"{order}{number}{_FORMATS[kind]}")
        where = at + 8 if values.size <= 4 else unpack_from(f"{order}I", content, at + 8)[0]
        found[tag] = values.unpack_from(content, where)
    return found
