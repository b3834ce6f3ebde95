"""PNG: libpng reads all its kinds, also colour of 16 bits, which Pillow cuts to 8."""

from __future__ import annotations

from io import BytesIO
from struct import Struct
from typing import Any, BinaryIO
from zlib import crc32

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medfathom.data.formats.pillow import orientation, pillow_open
from medfathom.data.pixels import Header, Opened, Samples, UnreadableImageError

START_BYTES = 4096
"""Of most files the part before the pixels."""

_HEADER = Struct(">4sIIBB3xI")
"""Name, width, height, depth, colour type and checksum of the first chunk (PNG 1.2, 11.2.2)."""

_DEPTH, _COLOUR_TYPE = 24, 25
"""Bytes of the IHDR chunk, which is the first."""

_GREY, _PALETTE, _GREY_AND_ALPHA = 0, 3, 4


def header(file: BinaryIO) -> Header:
    """Raises UnreadableImageError."""
    start = file.read(START_BYTES)
    # Behind the start of the pixels nothing says that there are several.
    return (_plain(start) if b"IDAT" in start else None) or _header(start, pillow_open(file, "PNG"))


def opened(content: bytes) -> Opened:
    """Raises UnreadableImageError."""
    found, turn = _plain(content), 1
    if found is None or _may_be_turned(content):
        image = pillow_open(BytesIO(content), "PNG")
        found = _header(content, image)
        # Pillow would decode the pixels to find a chunk that stands behind them.
        turn = orientation(image) if _may_be_turned(content) else 1

    def samples(_: int) -> Samples:
        values: NDArray[Any] = imagecodecs.png_decode(content)
        return Samples(
            values if values.ndim == 3 else values[:, :, None],
            white=65535 if values.dtype == np.uint16 else 255,
            orientation=turn,
        )

    return Opened(found, samples)


def _plain(content: bytes) -> Header | None:
    """The header of an image without a palette, which may be grey, and without animation.

    Pillow takes as long for a header as the decoder for a small image.
    """
    name, width, height, depth, colour_type, checksum = _HEADER.unpack(content[12:33])
    if name != b"IHDR" or crc32(content[12:29]) != checksum:
        raise UnreadableImageError("damaged or truncated (a PNG file without a valid header)")
    if colour_type == _PALETTE or b"acTL" in content:
        return None
    return Header(width, height, colour_type not in (_GREY, _GREY_AND_ALPHA), deep=depth == 16)


def _header(start: bytes, image: Image.Image) -> Header:
    if getattr(image, "n_frames", 1) > 1:
        raise UnreadableImageError("an animated PNG; one image is expected in a file")
    colour_type = start[_COLOUR_TYPE]
    colour = colour_type not in (_GREY, _GREY_AND_ALPHA)
    if colour_type == _PALETTE:
        palette = np.array(image.getpalette() or [0, 0, 0]).reshape(-1, 3)
        colour = bool((palette != palette[:, :1]).any())
    return Header(*image.size, colour, deep=start[_DEPTH] == 16)


def _may_be_turned(content: bytes) -> bool:
    return any(word in content for word in (b"eXIf", b"Raw profile type exif", b"tiff:Orientation"))
