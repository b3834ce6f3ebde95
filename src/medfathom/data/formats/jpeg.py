"""JPEG. Of a phone's file with several pictures (MPO), the first, which any viewer shows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from io import BytesIO
from struct import unpack
from typing import Any, BinaryIO

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from medfathom.data.formats.pillow import orientation, pillow_open
from medfathom.data.pixels import Header, Opened, Samples, UnreadableImageError

START_BYTES = 8192
"""Of most files the part before the pixels."""

_UNREAD = {
    0xC9: "JPEG with arithmetic coding",
    0xCA: "JPEG with arithmetic coding",
    0xF7: "JPEG-LS",
}
"""Frames that are not read, by their marker."""

_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
"""Markers of frame headers: Huffman, arithmetic, lossless; and JPEG-LS."""

_SCAN, _EXIF_OR_XMP = 0xDA, 0xE1
_RESTART, _END = 0xD0, 0xD9
"""Markers: the first of eight between parts of the pixels, and the last one of a file."""


def header(file: BinaryIO) -> Header:
    """Raises UnreadableImageError."""
    frame = _frame(file.read(START_BYTES))
    if frame is not None and frame.plain:
        return frame.header()
    file.seek(0)
    _refuse_unread(_frame(file.read()))
    return _header(pillow_open(file, "JPEG"))


def opened(content: bytes) -> Opened:
    """Raises UnreadableImageError."""
    frame = _frame(content)
    _refuse_unread(frame)
    if frame is not None and frame.plain:  # Pillow takes longer for a header than the decoder for some images
        found, turn = frame.header(), 1
    else:
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
            values = _tolerantly(content, at_least, str(error))
        return Samples(values, white=255, orientation=turn)

    return Opened(found, samples)


def _header(image: Image.Image) -> Header:
    if image.mode not in ("L", "RGB"):
        raise UnreadableImageError(f"JPEG with {image.mode} colours; save it as RGB or grey")
    return Header(*image.size, colour=image.mode == "RGB", deep=False)


def _tolerantly(content: bytes, at_least: int, complaint: str) -> NDArray[Any]:
    """Files that break rules of the format, but lose no pixel."""
    lost = "Corrupt JPEG data" in complaint and not _is_padding(complaint, content)
    if lost or "Premature end" in complaint:
        raise UnreadableImageError(f"damaged or truncated ({complaint})")
    image = pillow_open(BytesIO(content), "JPEG")
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


@dataclass(frozen=True, slots=True)
class _Frame:
    """What stands before the pixels (ITU-T T.81, B.2.2)."""

    marker: int
    precision: int
    height: int
    width: int
    components: int
    described: bool
    """Whether there is EXIF or XMP, which may say how the image is turned."""

    @property
    def plain(self) -> bool:
        """Whether this is all that there is to know."""
        read = self.marker not in _UNREAD and self.precision == 8
        return read and not self.described and self.components in (1, 3) and self.height > 0

    def header(self) -> Header:
        return Header(self.width, self.height, colour=self.components == 3, deep=False)


def _refuse_unread(frame: _Frame | None) -> None:
    """Say what a JPEG is that is not read, instead of a decoder's guess."""
    if frame is None:
        return
    if frame.marker in _UNREAD:
        raise UnreadableImageError(f"{_UNREAD[frame.marker]}; save it as baseline JPEG or PNG")
    if frame.precision != 8:
        raise UnreadableImageError(f"JPEG of {frame.precision} bits; save it as PNG of 16 bits")


def _frame(content: bytes) -> _Frame | None:
    """The first frame header before the pixels; None where they do not come."""
    at, described = 2, False
    found: tuple[int, int, int, int, int] | None = None
    while at + 10 <= len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker == _SCAN:
            return None if found is None else _Frame(*found, described)
        if found is None and marker in _FRAMES:
            precision, height, width, components = unpack(">BHHB", content[at + 4 : at + 10])
            found = marker, precision, height, width, components
        described |= marker == _EXIF_OR_XMP
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return None if found is None else _Frame(*found, described=True)
