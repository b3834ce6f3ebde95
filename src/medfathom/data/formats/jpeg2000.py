"""JPEG 2000: JP2 files and bare codestreams, unsigned grey or RGB."""

from __future__ import annotations

import struct
from typing import Any, BinaryIO

import imagecodecs
from numpy.typing import NDArray

from medfathom.data.pixels import Header, Opened, Samples, UnreadableImageError

_CODESTREAM = b"\xff\x4f\xff\x51"
"""Start of codestream and of the SIZ segment (ISO/IEC 15444-1, A.5.1)."""

_SYCC = b"colr\x01\x00\x00\x00\x00\x00\x12"


def header(file: BinaryIO) -> Header:
    """Raises UnreadableImageError."""
    file.seek(0)
    return _read(file.read())[0]


def opened(content: bytes) -> Opened:
    """Raises UnreadableImageError."""
    found, bits = _read(content)

    def samples(_: int) -> Samples:
        values: NDArray[Any] = imagecodecs.jpeg2k_decode(content)
        return Samples(values if values.ndim == 3 else values[:, :, None], white=2**bits - 1)

    return Opened(found, samples)


def _read(content: bytes) -> tuple[Header, int]:
    """The header, and the bits of each value."""
    at = content.find(_CODESTREAM)
    if at < 0 or len(content) < at + 42:
        raise UnreadableImageError("damaged or truncated (a JPEG 2000 file without a codestream)")
    right, bottom, left, top = struct.unpack_from(">4I", content, at + 8)
    (n_components,) = struct.unpack_from(">H", content, at + 40)
    components = {content[at + 42 + 3 * c : at + 45 + 3 * c] for c in range(n_components)}
    depth = content[at + 42] if len(content) > at + 42 else 0
    reason = _unread(content[:at], components, n_components, depth)
    if reason:
        raise UnreadableImageError(f"JPEG 2000 {reason}; save it as PNG")
    bits = depth + 1
    return Header(right - left, bottom - top, n_components == 3, bits > 8), bits


def _unread(boxes: bytes, components: set[bytes], n_components: int, depth: int) -> str | None:
    if n_components not in (1, 3):
        return f"with {n_components} channels"
    if len(components) > 1 or any(part[1:] != b"\1\1" for part in components):
        return "whose channels differ in depth or size"
    if depth & 0x80:
        return "with signed values"
    if depth >= 16:
        return f"of {depth + 1} bits"
    if b"pclr" in boxes:
        return "with a palette"
    return "with YCC colours" if _SYCC in boxes else None
