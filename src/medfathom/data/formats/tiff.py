"""TIFF, read by tifffile: only what the tests compare with values written; all else is refused by name."""

from __future__ import annotations

import logging
import struct
from dataclasses import replace
from functools import lru_cache
from io import SEEK_END, BytesIO
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from tifffile import COMPRESSION, EXTRASAMPLE, PHOTOMETRIC, TiffFile, TiffPage

from medfathom.data.formats import tiff_plain
from medfathom.data.formats.tiff_plain import Plain
from medfathom.data.pixels import Header, Opened, Samples, UnreadableImageError

START_BYTES = 4096
"""Of many files the tags; they may also stand at the end."""

_COMPRESSIONS = {
    COMPRESSION.NONE,
    COMPRESSION.LZW,
    COMPRESSION.JPEG,
    COMPRESSION.PACKBITS,
    COMPRESSION.DEFLATE,
    COMPRESSION.ADOBE_DEFLATE,
    COMPRESSION.CCITTFAX4,
    COMPRESSION.JPEG2000,
    COMPRESSION.ZSTD,
    COMPRESSION.LZMA,
}
_COLOURS = {PHOTOMETRIC.RGB, PHOTOMETRIC.YCBCR}
_GREYS = {PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.MINISWHITE}
_PREDICTORS = (1, 2)
"""None, and horizontal differences; 3 is for floating-point values."""

_UNSIGNED, _SIGNED = 1, 2
_ORIENTATION = 274

_REDUCED, _MASK = 1, 4
"""Bits of NewSubfileType."""

# Its complaints about odd tags would go to the user's terminal; what matters is raised.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)


def header(file: BinaryIO) -> Header:
    """Raises UnreadableImageError."""
    size = file.seek(0, SEEK_END)
    file.seek(0)
    plain = tiff_plain.read(file.read(START_BYTES))
    if plain is not None and plain.end <= size:
        return _plain_header(plain)
    file.seek(0)
    with TiffFile(file) as tiff:
        return _header(_page(tiff))


def stack_header(file: BinaryIO) -> Header:
    """Of all pages of a file with several. Raises UnreadableImageError, also where they differ."""
    file.seek(0)
    with TiffFile(file) as tiff:
        pages = _pages(tiff)
        if len(pages) == 1:
            return _header(_page(tiff))
        reason = next(filter(None, map(_unread, pages)), None)
        if reason:
            raise UnreadableImageError(f"TIFF {reason}")
        found = _header(pages[0])
        if any(_header(page) != found or _white(page) != _white(pages[0]) for page in pages):
            raise UnreadableImageError("pages that differ in size or depth; one stack is expected in a file")
        return replace(found, frames=len(pages))


def opened(content: bytes) -> Opened:
    """Raises UnreadableImageError."""
    plain = tiff_plain.read(content)
    if plain is None or plain.end > len(content):
        return _opened(_page(TiffFile(BytesIO(content))), content)
    found = _plain_header(plain)
    return Opened(
        found,
        lambda _: Samples(
            plain.values(content),
            white=plain.white,
            orientation=plain.orientation,
            zero_is_white=plain.zero_is_white,
        ),
    )


def frame(content: bytes, index: int) -> Opened:
    """A page of a stack, from 0 on. Raises UnreadableImageError."""
    tiff = TiffFile(BytesIO(content))
    tiff.filehandle.seek(_places(content)[index])
    return _opened(TiffPage(tiff, index), content)


@lru_cache(maxsize=1)
def _places(content: bytes) -> list[int]:
    """Where each page of a stack has its tags: to look through all of them for each would take longest."""
    return [page.offset for page in _pages(TiffFile(BytesIO(content)))]


def _plain_header(plain: Plain) -> Header:
    return Header(plain.width, plain.height, colour=plain.channels == 3, deep=plain.dtype.itemsize == 2)


def _opened(page: TiffPage, content: bytes) -> Opened:
    found = _header(page)

    def samples(_: int) -> Samples:
        return Samples(
            _values(page, content),
            white=255 if page.photometric == PHOTOMETRIC.PALETTE else _white(page),
            orientation=_orientation(page),
            zero_is_white=page.photometric == PHOTOMETRIC.MINISWHITE,
        )

    return Opened(found, samples)


def _page(tiff: TiffFile) -> TiffPage:
    """The only image."""
    pages = _pages(tiff)
    if len(pages) > 1:
        raise UnreadableImageError(
            f'several pages ({len(pages)}); one image is expected in a file (unit = "volume" takes all pages)'
        )
    reason = _unread(pages[0])
    if reason:
        raise UnreadableImageError(f"TIFF {reason}")
    return pages[0]


def _pages(tiff: TiffFile) -> list[TiffPage]:
    """The images; smaller copies of them and masks may stand between them."""
    others = [page.aspage() for page in tiff.pages[1:]] if _next_page(tiff) else []
    _refuse_cut_off(tiff, others[-1] if others else tiff.pages.first)
    pages = [tiff.pages.first, *(p for p in others if not int(p.subfiletype) & (_REDUCED | _MASK))]
    said = int((tiff.imagej_metadata or {}).get("images", 1))
    if said > 1 and said != len(pages):
        raise UnreadableImageError(
            f"{len(pages)} of {said} pages of an ImageJ stack have a header; save it again"
        )
    return pages


def _refuse_cut_off(tiff: TiffFile, last: TiffPage) -> None:
    """Raises UnreadableImageError where a page after the last one read is beyond the end of the file."""
    file, form = tiff.filehandle, tiff.tiff
    file.seek(last.offset)
    (tags,) = struct.unpack(form.tagnoformat, file.read(form.tagnosize))
    file.seek(last.offset + form.tagnosize + tags * form.tagsize)
    (after,) = struct.unpack(form.offsetformat, file.read(form.offsetsize))
    if after >= file.size:
        raise UnreadableImageError("TIFF that was cut off: its next page is missing")


def _next_page(tiff: TiffFile) -> bool:
    try:
        return tiff.pages[1] is not None
    except IndexError:
        return False


def _header(page: TiffPage) -> Header:
    colour = page.photometric in _COLOURS
    if page.photometric == PHOTOMETRIC.PALETTE:
        palette = _palette(page)
        colour = bool((palette != palette[:, :1]).any())
    deep = page.bitspersample > 8 and page.photometric != PHOTOMETRIC.PALETTE
    return Header(page.imagewidth, page.imagelength, colour, deep)


def _unread(page: TiffPage) -> str | None:
    """Why this image is not read."""
    return _unread_form(page) or _unread_values(page) or _unread_colours(page)


def _unread_form(page: TiffPage) -> str | None:
    if page.compression not in _COMPRESSIONS:
        return f"with {_name(COMPRESSION, page.compression)} compression; save it with LZW or none"
    if page.axes not in ("YX", "YXS", "SYX"):
        return f"with axes {page.axes}; one flat image is expected"
    if page.predictor not in _PREDICTORS:
        return f"with predictor {page.predictor}; save it without"
    if not all(page.databytecounts):
        return "with parts that were never written"
    ends = (start + n for start, n in zip(page.dataoffsets, page.databytecounts, strict=True))
    # Decoders would fill up what is missing of some compressions without a word.
    return "that was cut off" if max(ends) > page.parent.filehandle.size else None


def _unread_values(page: TiffPage) -> str | None:
    bits, form = page.bitspersample, page.sampleformat
    if not isinstance(bits, int):
        return f"whose channels differ in depth ({bits} bits)"
    kinds = {
        "floating-point pixels": form == 3,
        f"sample format {form}": form not in (_UNSIGNED, _SIGNED, 3),
        f"values of {bits} bits": bits > 16,
        f"signed values of {bits} bits": form == _SIGNED and bits not in (8, 16),
        f"JPEG compression of {bits} bits": page.compression == COMPRESSION.JPEG and bits != 8,
    }
    found = next((kind for kind, there in kinds.items() if there), None)
    return f"with {found}; save it with 8 or 16 bits" if found else None


def _unread_colours(page: TiffPage) -> str | None:
    kind, extra, n = page.photometric, page.extrasamples, page.samplesperpixel
    known = kind in _COLOURS | _GREYS | {PHOTOMETRIC.PALETTE}
    alpha = (EXTRASAMPLE.ASSOCALPHA, EXTRASAMPLE.UNASSALPHA)
    signed = page.sampleformat == _SIGNED
    kinds = {
        f"{_name(PHOTOMETRIC, kind)} colours": not known,
        "YCbCr colours that are not JPEG": kind == PHOTOMETRIC.YCBCR and page.compression != COMPRESSION.JPEG,
        "a palette of more than 8 bits": kind == PHOTOMETRIC.PALETTE and page.bitspersample > 8,
        f"{n} channels": n - len(extra) != (3 if kind in _COLOURS else 1) or len(extra) > 1,
        "an extra channel of unknown meaning": bool(extra) and extra[0] not in alpha,
        "a palette and alpha": kind == PHOTOMETRIC.PALETTE and n > 1,
        "signed values in colour or with alpha": signed and (n > 1 or kind not in _GREYS),
    }
    found = next((kind for kind, there in kinds.items() if there), None)
    return f"with {found}; save it as RGB or grey" if found else None


def _values(page: TiffPage, content: bytes) -> NDArray[Any]:
    """(h, w, channels) as written; palettes resolved, premultiplied alpha left away."""
    values: NDArray[Any]
    if page.is_memmappable and page.dtype is not None:
        order = page.parent.byteorder + page.dtype.char
        values = np.frombuffer(content, order, np.prod(page.shape), page.dataoffsets[0]).reshape(page.shape)
    else:
        values = page.asarray(maxworkers=1)
    if values.dtype == np.bool_:
        values = values.astype(np.uint8)
    if page.photometric == PHOTOMETRIC.PALETTE:
        colours: NDArray[Any] = _palette(page)[values]
        return colours
    if page.axes == "SYX":
        values = np.moveaxis(values, 0, 2)
    elif page.axes == "YX":
        values = values[:, :, None]
    if EXTRASAMPLE.ASSOCALPHA in page.extrasamples:  # values shown on black already
        values = values[:, :, :-1]
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _palette(page: TiffPage) -> NDArray[np.uint8]:
    """(colours, 3). Of 16 bits, though some programs write 8."""
    if page.colormap is None:
        raise UnreadableImageError("damaged (a TIFF without its palette)")
    palette = page.colormap if page.colormap.max() < 256 else page.colormap >> 8
    return np.ascontiguousarray(palette.T.astype(np.uint8))


def _white(page: TiffPage) -> int:
    return int(2**page.bitspersample - 1)


def _orientation(page: TiffPage) -> int:
    turn = page.tags.valueof(_ORIENTATION, 1)
    return turn if turn in range(1, 9) else 1


def _name(kinds: Any, value: int) -> str:
    try:
        return str(kinds(value).name)
    except ValueError:
        return f"unknown ({value})"
