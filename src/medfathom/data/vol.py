"""Heidelberg's .vol files of OCT: B-scans, in the layout that eyepy's `vol_format` describes."""

from __future__ import annotations

import struct
from functools import partial
from typing import BinaryIO, NamedTuple

import numpy as np

from medfathom.data.pixels import Header, Opened, Samples, UnreadableImageError
from medfathom.data.pseudonyms import Subject, pseudonym

SUFFIXES = (".vol",)

START = b"HSF-OCT"

INVALID = 3e38
"""What was not measured is the largest float32, 3.4e38."""

EYES = {b"OD": "R", b"OS": "L"}
"""The header's ScanPosition -> the eye."""

_HEADER, _HEADER_BYTES = struct.Struct("<12sIIIdddIIddId4sQiI16s16sI24s"), 2048


class _Layout(NamedTuple):
    """Where a file's B-scans lie: bytes from the start to the first, and from one to the next; their size."""

    start: int
    step: int
    n: int
    height: int
    width: int
    patient: str
    eye: str


def stack_header(file: BinaryIO) -> Header:
    """Size and number of B-scans. Raises UnreadableImageError."""
    file.seek(0)
    start = file.read(_HEADER.size)
    found = _layout(start, file.seek(0, 2))
    subject = Subject(pseudonym(found.patient), "", (found.patient,))
    return Header(
        found.width,
        found.height,
        colour=False,
        deep=False,
        subject=subject,
        frames=found.n,
        laterality=found.eye,
    )


def frame(content: bytes, index: int) -> Opened:
    """A B-scan, from 0 on. Raises UnreadableImageError."""
    found = _layout(content[: _HEADER.size], len(content))
    header = Header(found.width, found.height, colour=False, deep=False)
    return Opened(header, partial(_samples, content, found, index))


def _layout(start: bytes, size: int) -> _Layout:
    fields = _HEADER.unpack(start)
    width, n, height = fields[1:4]
    before, step = fields[16], fields[16] + 4 * width * height
    first = _HEADER_BYTES + fields[7] * fields[8]
    if not n:
        raise UnreadableImageError("damaged (its header says that it has no B-scan)")
    if first + n * step > size:
        raise UnreadableImageError(
            f"damaged or truncated ({n} B-scans need {first + n * step} bytes, it has {size})"
        )
    patient = fields[20].split(b"\0")[0].decode("latin-1").strip()
    return _Layout(first + before, step, n, height, width, patient, EYES.get(fields[13][:2], ""))


def _samples(content: bytes, found: _Layout, index: int, _: int) -> Samples:
    """As HEYEX shows it: the fourth root of the reflectivity, from 0 to 1. What was not measured is black."""
    start = found.start + index * found.step
    values = np.frombuffer(content, "<f4", found.height * found.width, start)
    valid = np.isfinite(values) & (values < INVALID)
    light = np.clip(np.where(valid, values, 0), 0, 1) ** 0.25
    shown = np.rint(light * 255).astype(np.uint8).reshape(found.height, found.width, 1)
    return Samples(shown, 255, scaled=True)
