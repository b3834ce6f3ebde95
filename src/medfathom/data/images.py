"""Image files: recognised by their content, decoded right whatever they hold, made square."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from medfathom.data import dicom, nifti, oct_files, slides, vol
from medfathom.data.formats import jpeg, jpeg2000, pillow, png, pnm, tiff
from medfathom.data.pixels import (
    MAX_PIXELS,
    MIN_SIDE,
    Fit,
    Header,
    Opened,
    Pixels,
    UnreadableImageError,
    bits_in_use,
    damage,
    fit_square,
    full_range,
    to_pixels,
    with_type,
)

__all__ = [
    "MAX_PIXELS",
    "MIN_SIDE",
    "SUFFIXES",
    "Decoded",
    "Fit",
    "Header",
    "Pixels",
    "UnreadableImageError",
    "decode",
    "fit_square",
    "full_range",
    "read_bytes",
    "read_header",
]

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp"),
    *(".gif", ".webp", ".jp2", ".j2k", ".j2c", ".pgm", ".ppm", ".pnm"),
    *(*dicom.SUFFIXES, *nifti.SUFFIXES, *vol.SUFFIXES, *oct_files.SUFFIXES, *slides.SUFFIXES),
)
"""Files of a folder that are taken for images. What a file really is, its content says."""

MAX_FILE_BYTES = 2**29
"""No image within MAX_PIXELS needs a larger file."""

START_BYTES = 1024
"""Enough of a file to recognise its format, though gzip packed it."""


class Reader(Protocol):
    """Reads one format. Both raise UnreadableImageError, or any other error for a damaged file."""

    def header(self, file: BinaryIO, /) -> Header:
        """Look at an open file without decoding its pixels."""

    def opened(self, content: bytes, /) -> Opened:
        """Look at a whole file."""


class StackReader(Protocol):
    """Reads a format whose files may have several images. Both raise as those of `Reader`."""

    def stack_header(self, file: BinaryIO, /) -> Header:
        """Look at an open file without decoding its pixels: how many frames, and the form of all."""

    def frame(self, content: bytes, index: int, /) -> Opened:
        """Look at one frame of a whole file, from 0 on."""


@dataclass(frozen=True)
class _Pillow:
    kind: str

    def header(self, file: BinaryIO, /) -> Header:
        return pillow.header(file, self.kind)

    def opened(self, content: bytes, /) -> Opened:
        return pillow.opened(content, self.kind)


_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

READERS: tuple[tuple[tuple[bytes, ...], Reader], ...] = (
    ((b"\x89PNG\r\n\x1a\n",), png),
    ((b"\xff\xd8\xff",), jpeg),
    (_TIFF, tiff),
    ((b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"), jpeg2000),
    ((b"P2", b"P3", b"P5", b"P6"), pnm),
    ((b"BM",), _Pillow("BMP")),
    ((b"GIF8",), _Pillow("GIF")),
    ((b"RIFF",), _Pillow("WEBP")),
)
"""How a file of each format starts."""

OTHERS = {
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"8BPS": "a Photoshop file",
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "a ZIP archive",
    b"\x1f\x8b": "a gzip archive",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "a NumPy array",
    b"version https://git-lfs": "a Git LFS pointer: the image itself was not downloaded",
    b"P1": "a bitmap of the PBM format",
    b"P4": "a bitmap of the PBM format",
    b"II\xbc\x01": "JPEG XR",
    b"PF": "a floating-point image of the PFM format",
    b"Pf": "a floating-point image of the PFM format",
    b"<": "HTML or XML: a failed download, perhaps",
}
"""What a file is that is not read, by its start."""

FOLDER = 'is a folder; unit = "volume", "slide" or "case" takes its images for one case'

READ_FORMATS = "PNG, JPEG, TIFF, BMP, GIF, WebP, JPEG 2000, DICOM, PGM or PPM image"


@dataclass(frozen=True)
class Decoded:
    """Pixels, and what is known of the file.

    Attributes:
        pixels: (size, size, channels) or (h, w, channels).
        width: of the image in the file, pixels.
        height: of the image in the file, pixels.
        bits_used: bits that the file's values need; 0 for a file of 8 bits and for DICOM.
    """

    pixels: Pixels
    width: int
    height: int
    bits_used: int = 0


def read_bytes(path: Path) -> bytes:
    """A file's content. Raises UnreadableImageError."""
    with _named_reasons(), open(path, "rb", buffering=0, opener=_at_once) as file:
        if os.fstat(file.fileno()).st_size > MAX_FILE_BYTES:
            raise UnreadableImageError(f"larger than {MAX_FILE_BYTES >> 20} MiB")
        return file.readall()


def _at_once(path: str, flags: int) -> int:
    """Opens a file; a pipe would wait until somebody writes into it. Raises UnreadableImageError."""
    number = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    if not stat.S_ISREG(mode := os.fstat(number).st_mode):
        os.close(number)
        raise UnreadableImageError(FOLDER if stat.S_ISDIR(mode) else "no file, but a pipe or a device")
    return number


def read_header(path: Path, *, slice_axis: int | None = None, eye: oct_files.Eye | None = None) -> Header:
    """Look at a file without decoding its pixels.

    Args:
        path: the file.
        slice_axis: given where the file may be a stack, as `Header.frames` says: of NIfTI files the axis that
            counts slices, see `Nifti`. None: a stack is refused.
        eye: of a file with several OCT volumes the one to take; a stack of the other eye is refused.

    Raises:
        UnreadableImageError: with the reason.
    """
    if path.name.lower().endswith(slides.SUFFIXES):
        raise UnreadableImageError(slides.CUT)
    with _named_reasons(), open(path, "rb", opener=_at_once) as file:
        start = file.read(START_BYTES)
        stack = None if slice_axis is None else _stack_reader(start, None, slice_axis, eye)
        header = _reader(start).header if stack is None else stack.stack_header
        with damage():
            file.seek(0)
            found = header(file)
    if eye is not None and oct_files.EYES.get(found.laterality, eye) != eye:
        raise UnreadableImageError(
            f"of the {oct_files.EYES[found.laterality]} eye, but dataset.eye is {eye!r}"
        )
    return found


def decode(
    content: bytes,
    channels: int,
    dtype: np.dtype[Any],
    *,
    bits: int = 16,
    size: int | None = None,
    fit: Fit = "squash",
    window: dicom.Window | None = None,
    frame: int | None = None,
    slice_axis: int = 2,
    eye: oct_files.Eye | None = None,
) -> Decoded:
    """Decode an image file.

    Palettes are resolved, transparent pixels are shown on black, EXIF and TIFF orientation is applied, signed
    values are shifted, colour becomes grey by ITU-R 601 luma, and values of more than 8 bits are scaled so
    that `bits` bits reach white.

    Args:
        content: the file's bytes.
        channels: 1 or 3, of the result.
        dtype: uint8 or uint16, of the result; 8-bit images are scaled up to uint16, never 16-bit ones down.
        bits: bits in use of images with more than 8.
        size: side of the square result, pixels; None: keep the image's size. A JPEG more than twice as large
            is decoded at 1/2, 1/4 or 1/8 first.
        fit: how it is made square.
        window: centre and width for DICOM files, in units after the modality LUT, and for NIfTI files; None:
            the file's own.
        frame: of a stack, from 0 on; None: the file is one image.
        slice_axis: of NIfTI files, see `Nifti`.
        eye: of a file with several OCT volumes.

    Raises:
        UnreadableImageError: truncated, not an image, too large, too small, of a kind that is not supported.
    """
    with damage():
        opened = _opened(content, window, frame, slice_axis, eye)
        samples = opened.samples(0 if size is None else 2 * size)
        header = opened.header
        pixels = to_pixels(samples, header, channels, bits)
        if size is not None:
            pixels = fit_square(pixels, size, fit)
        used = bits_in_use(samples.values) if header.deep and not samples.scaled else 0
    return Decoded(with_type(pixels, dtype), header.width, header.height, used)


def _opened(
    content: bytes,
    window: dicom.Window | None,
    frame: int | None,
    slice_axis: int,
    eye: oct_files.Eye | None,
) -> Opened:
    start = content[:START_BYTES]
    if frame is None:
        return _reader(start, window).opened(content)
    stack = _stack_reader(start, window, slice_axis, eye)
    if stack is None:
        raise UnreadableImageError("changed since it was listed: it was a stack")
    return stack.frame(content, frame)


def _stack_reader(
    start: bytes, window: dicom.Window | None, slice_axis: int, eye: oct_files.Eye | None
) -> StackReader | None:
    """The reader of a file with several images; None where its format has none."""
    if dicom.is_dicom(start):
        return dicom.Dicom(window)
    if nifti.is_nifti(start):
        return nifti.Nifti(window, slice_axis)
    if start.startswith(vol.START):
        return vol
    if start.startswith(oct_files.STARTS):
        return oct_files.OctFile(eye)
    return tiff if start.startswith(_TIFF) else None


def _stack_kind(start: bytes) -> str:
    """The name of a format whose files are stacks; "" for others."""
    if nifti.is_nifti(start):
        return "a NIfTI file"
    if start.startswith(vol.START):
        return "a Heidelberg .vol file"
    return "an OCT file of Heidelberg or Topcon" if start.startswith(oct_files.STARTS) else ""


def _reader(start: bytes, window: dicom.Window | None = None) -> Reader:
    """The reader of a file that starts like this. Raises UnreadableImageError."""
    if dicom.is_dicom(start):
        return dicom.Dicom(window)
    if kind := _stack_kind(start):
        raise UnreadableImageError(f'{kind}, which is a stack; unit = "volume" takes its slices')
    for starts, reader in READERS:
        if start.startswith(starts):
            return reader
    if not start:
        raise UnreadableImageError("empty file")
    other = next((name for known, name in OTHERS.items() if start.startswith(known)), None)
    if start[4:8] == b"ftyp":
        other = "HEIC, AVIF or a video"
    raise UnreadableImageError(f"{other + ', ' if other else ''}not a {READ_FORMATS}")


@contextmanager
def _named_reasons() -> Iterator[None]:
    """Errors of the file system as reasons."""
    try:
        yield
    except PermissionError:
        raise UnreadableImageError("may not be read (permissions)") from None
    except FileNotFoundError:
        raise UnreadableImageError("no such file") from None
    except IsADirectoryError:
        raise UnreadableImageError(FOLDER) from None
    except OSError as error:
        raise UnreadableImageError(f"cannot be read ({error.strerror or error})") from None
