"""JPEG. Of a phone's file with several pictures (MPO), the first, which any viewer shows."""

from __future__ import annotations

import re
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from medfathom.data.formats.pillow import orientation, pillow_open
from medfathom.data.pixels import Header, Opened, Samples, UnreadableImageError

_UNREAD = {
    0xC9: "JPEG with arithmetic coding",
    0xCA: "JPEG with arithmetic coding",
    0xF7: "JPEG-LS",
}
"""Frames that are not read, by their marker."""

_RESTART, _END = 0xD0, 0xD9
"""Markers: the first of eight between parts of the pixels, and the last one of a file."""


def header(file: BinaryIO) -> Header:
    """Raises UnreadableImageError."""
    try:
        return _header(pillow_open(file, "JPEG"))
    except UnreadableImageError:
        file.seek(0)
        _refuse_unread(file.read())
        raise


def opened(content: bytes) -> Opened:
    """Raises UnreadableImageError."""
    _refuse_unread(content)
    image = pillow_open(BytesIO(content), "JPEG")
    found, turn = _header(image), orientation(image)
    mode = "RGB" if found.colour else "GRAY"

    def samples(at_least: int) -> Samples:
        try:
            # Whole steps of 1/2, 1/4, 1/8: others take longer than decoding all.
            values: NDArray[Any] = simplejpeg.decode_jpeg(
                content, mode, min_height=at_least, min_width=at_least, min_factor=2 if at_least else 1
            )
        except ValueError as error:
            values = _tolerantly(image, at_least, str(error), content)
        return Samples(values, white=255, orientation=turn)

    return Opened(found, samples)


def _header(image: Image.Image) -> Header:
    if image.mode not in ("L", "RGB"):
        raise UnreadableImageError(f"JPEG with {image.mode} colours; save it as RGB or grey")
    return Header(*image.size, colour=image.mode == "RGB", deep=False)


def _tolerantly(image: Image.Image, at_least: int, complaint: str, content: bytes) -> NDArray[Any]:
    """Files that break rules of the format, but lose no pixel."""
    lost = "Corrupt JPEG data" in complaint and not _is_padding(complaint, content)
    if lost or "Premature end" in complaint:
        raise UnreadableImageError(f"damaged or truncated ({complaint})")
    if at_least:
        image.draft(None, (at_least, at_least))
    image.load()
    values: NDArray[Any] = np.asarray(image)
    return values if values.ndim == 3 else values[:, :, None]


def _is_padding(complaint: str, content: bytes) -> bool:
    """Whether bytes that belong to nothing stand between segments, or are filling before the end.

    Other bytes before the end, or before a restart marker, are pixels that lost their place.
    """
    found = re.search(r"(\d+) extraneous bytes before marker 0x(\w\w)", complaint)
    if found is None:
        return False
    count, marker = int(found[1]), int(found[2], 16)
    if marker != _END:
        return not _RESTART <= marker < _RESTART + 8
    end = content.rfind(bytes([0xFF, _END]))
    return not content[max(0, end - count) : end].strip(b"\0\xff")


def _refuse_unread(content: bytes) -> None:
    """Say what a JPEG is that is not read, instead of a decoder's guess."""
    marker, precision = _frame(content)
    if marker in _UNREAD:
        raise UnreadableImageError(f"{_UNREAD[marker]}; save it as baseline JPEG or PNG")
    if precision != 8:
        raise UnreadableImageError(f"JPEG of {precision} bits; save it as PNG of 16 bits")


def _frame(content: bytes) -> tuple[int, int]:
    """Marker and bits of the first frame header (ITU-T T.81, B.1.1); (0, 8) where there is none."""
    at = 2
    while at + 5 <= len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
        elif (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)) or marker == 0xF7:
            return marker, content[at + 4]
        else:
            at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return 0, 8
