"""DICOM files: stored values to grey or RGB as a viewer shows them (PS3.3 C.7.6.3, C.11.1, C.11.2).

The order is fixed: modality LUT or rescale; VOI LUT or window; only then MONOCHROME1 and the presentation LUT
shape INVERSE are turned around, once. pydicom and its decoders are imported when a file is read.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from medfathom.data import slides
from medfathom.data.luts import Values, modality, shown
from medfathom.data.pixels import Header, Opened, Pixels, Samples, UnreadableImageError
from medfathom.data.pseudonyms import subject_of

if TYPE_CHECKING:
    from pydicom import Dataset

SUFFIXES = (".dcm", ".dicom", ".ima")

DIRECTORY = b"1.2.840.10008.1.3.10"
"""SOP class of a DICOMDIR file, Media Storage Directory (PS3.6 A)."""

WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"
"""SOP class of VL Whole Slide Microscopy (PS3.4 B.5)."""

INSTALL = "install medfathom[dicom]"

Window = tuple[float, float]
"""Centre and width, in units after the modality LUT: HU for CT."""

_GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT")
_PALETTE = "PALETTE COLOR"

_PREAMBLE = 128

# Complaints about odd values would show them on the user's terminal: dates and names among them.
logging.getLogger("pydicom").setLevel(logging.CRITICAL)
logging.getLogger("libjpeg").setLevel(logging.CRITICAL)
warnings.filterwarnings("ignore", module=r"pydicom(\.|$)")


def has_preamble(start: bytes) -> bool:
    """Whether a file that starts like this has DICOM's preamble (PS3.10 7.1)."""
    return start[_PREAMBLE : _PREAMBLE + 4] == b"DICM"


def is_dicom(start: bytes) -> bool:
    """Whether a file that starts like this is DICOM: `DICM` behind the preamble, or a first group 2 or 8."""
    if has_preamble(start):
        return True
    little = start[:4] in (b"\2\0\0\0", b"\2\0\1\0", b"\2\0\x10\0") or (
        start[:2] == b"\x08\0" and start[2:4] in (b"\0\0", b"\1\0", b"\5\0", b"\x08\0", b"\x12\0", b"\x16\0")
    )
    return little and (start[4:6].isalpha() or start[6:8] == b"\0\0")


@dataclass(frozen=True)
class Dicom:
    """Reads DICOM files of one frame.

    Attributes:
        window: centre and width that take the place of the file's own VOI LUT or window, as LINEAR.
    """

    window: Window | None = None

    def header(self, file: BinaryIO, /) -> Header:
        """Look at an open file without its pixels. Raises UnreadableImageError."""
        return header_of(_one_frame(_read(file, pixels=False)))

    def stack_header(self, file: BinaryIO, /) -> Header:
        """Of all frames of a file with several. Raises UnreadableImageError."""
        dataset = _read(file, pixels=False)
        n = n_frames(dataset)
        return replace(header_of(dataset), frames=n if n > 1 else None)

    def frame(self, content: bytes, index: int, /) -> Opened:
        """A frame, from 0 on. Raises UnreadableImageError."""
        dataset = read_dataset(content)
        return Opened(header_of(dataset), lambda _: frame_of(dataset, index, self.window))

    def opened(self, content: bytes, /) -> Opened:
        """Look at a whole file. Raises UnreadableImageError."""
        dataset = _one_frame(_read(BytesIO(content)))
        return Opened(header_of(dataset), partial(self._samples, dataset))

    def _samples(self, dataset: Dataset, _: int) -> Samples:
        return frame_of(dataset, 0, self.window)


def read_dataset(content: bytes) -> Dataset:
    """A whole file of one or many frames, whose values this module can read. Raises UnreadableImageError."""
    dataset = _read(BytesIO(content))
    header_of(dataset)
    return dataset


def n_frames(dataset: Dataset) -> int:
    """Frames of a file."""
    return int(dataset.get("NumberOfFrames") or 1)


def header_of(dataset: Dataset) -> Header:
    """Size and form of each frame, and whose it is.

    Raises:
        UnreadableImageError: no image, of a kind that is not read, or its decoder is not installed.
    """
    _check_form(dataset)
    if "PixelRepresentation" not in dataset:
        raise UnreadableImageError(
            "DICOM that does not say whether its values are signed (PixelRepresentation)"
        )
    _check_decoder(dataset)
    colours = dataset.PhotometricInterpretation
    return Header(
        int(dataset.Columns),
        int(dataset.Rows),
        colour=colours not in _GREY,
        deep=colours != _PALETTE and int(dataset.BitsStored) > 8,
        subject=subject_of(dataset.get),
        laterality=_laterality(dataset),
    )


def _laterality(dataset: Dataset) -> str:
    """R, L, or "" where it is not said: of the image, its series, or of all its frames."""
    groups = dataset.get("SharedFunctionalGroupsSequence") or []
    anatomy = [item for group in groups for item in group.get("FrameAnatomySequence") or []]
    found = [dataset.get("ImageLaterality"), dataset.get("Laterality")]
    found += [item.get("FrameLaterality") for item in anatomy]
    return next((str(word) for word in found if word in ("R", "L")), "")


def frame_of(dataset: Dataset, frame: int, window: Window | None = None) -> Samples:
    """One frame as it is shown.

    A file without VOI LUT and window is shown over the whole range of its own stored values after the
    modality LUT: the frame's smallest value becomes black, its largest white (or the reverse, see above).
    Pixel padding is black, and does not count for that range.

    Args:
        dataset: from `read_dataset`.
        frame: from 0 on.
        window: centre and width in units after the modality LUT, instead of the file's own.

    Returns:
        Values (rows, columns, 1 or 3) of full range: uint8, or uint16 where more than 8 bits are stored.

    Raises:
        UnreadableImageError: a LUT or window that cannot be used.
    """
    stored = _stored(dataset, frame)
    if dataset.PhotometricInterpretation == _PALETTE:
        return Samples(_palette_colours(dataset, stored), 255, scaled=True)
    if dataset.PhotometricInterpretation not in _GREY:
        return Samples(stored, 2 ** int(dataset.BitsStored) - 1, scaled=True)
    return _grey(dataset, stored, frame, window)


def _grey(dataset: Dataset, stored: NDArray[np.integer[Any]], frame: int, window: Window | None) -> Samples:
    padding = _padding(dataset, stored)
    values = modality(dataset, frame, stored)
    grey = shown(dataset, frame, Values(values, padding), window)
    if dataset.PhotometricInterpretation == "MONOCHROME1" or dataset.get("PresentationLUTShape") == "INVERSE":
        grey = 1 - grey
    grey[padding] = 0
    deep = int(dataset.BitsStored) > 8
    white = 65535 if deep else 255
    pixels: Pixels = np.rint(grey * white).astype(np.uint16 if deep else np.uint8)
    return Samples(pixels[:, :, None], white, scaled=True)


def _read(file: BinaryIO, *, pixels: bool = True) -> Dataset:
    """Raises UnreadableImageError where pydicom is not installed."""
    try:
        from pydicom import dcmread  # noqa: PLC0415  an extra
    except ImportError:
        raise UnreadableImageError(f"a DICOM file; {INSTALL} to read it") from None
    file.seek(0)
    dataset = dcmread(file, force=True, stop_before_pixels=not pixels)
    if not pixels and "Rows" in dataset and "PixelData" not in dataset:
        dataset.PixelData = b""  # which was not read
    return dataset


def _one_frame(dataset: Dataset) -> Dataset:
    """Raises UnreadableImageError where there are several."""
    _check_form(dataset)
    if (n := n_frames(dataset)) > 1:
        raise UnreadableImageError(
            f'DICOM with {n} frames; unit = "image" takes files of one frame; unit = "volume" takes all'
        )
    return dataset


def _check_form(dataset: Dataset) -> None:
    kind = dataset.get("SOPClassUID")
    if kind == WHOLE_SLIDE:
        raise UnreadableImageError(slides.CUT)
    if not {"PixelData", "Rows", "Columns", "BitsStored", "BitsAllocated"} <= set(dataset.dir()):
        name = f" ({kind.name})" if kind else ""
        raise UnreadableImageError(f"DICOM without an image of integer values{name}")
    stored, allocated = int(dataset.BitsStored), int(dataset.BitsAllocated)
    colours, n = dataset.get("PhotometricInterpretation", ""), int(dataset.get("SamplesPerPixel", 1))
    signed = int(dataset.get("PixelRepresentation", 0))
    kinds = {
        f"colours {colours or 'that it does not name'}": colours not in (*_GREY, *_COLOUR, _PALETTE),
        f"{n} values a pixel as {colours}": n != (3 if colours in _COLOUR else 1),
        f"{stored} bits stored in {allocated}": allocated not in (8, 16) or not 2 <= stored <= allocated,
        "signed colour": bool(signed) and colours not in _GREY,
    }
    found = next((kind for kind, there in kinds.items() if there), None)
    if found:
        raise UnreadableImageError(f"DICOM with {found}, which is not read")


def _syntax(dataset: Dataset) -> Any:
    """The transfer syntax; implicit VR little endian where a file has no meta information (PS3.5 10.1)."""
    meta = getattr(dataset, "file_meta", None)
    if meta is not None and "TransferSyntaxUID" in meta:
        return meta.TransferSyntaxUID
    from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian  # noqa: PLC0415  an extra

    implicit = dataset.original_encoding[0]
    return ImplicitVRLittleEndian if implicit in (True, None) else ExplicitVRLittleEndian


def _check_decoder(dataset: Dataset) -> None:
    from pydicom.pixels.decoders.base import get_decoder  # noqa: PLC0415  an extra

    syntax = _syntax(dataset)
    words = f"DICOM compressed as {syntax.name} ({syntax})" if syntax.name != syntax else f"DICOM in {syntax}"
    try:
        there = get_decoder(syntax).is_available
    except NotImplementedError:
        raise UnreadableImageError(f"{words}, which is not read; save it uncompressed") from None
    if not there:
        raise UnreadableImageError(f"{words}, whose decoder is not installed; {INSTALL}")


def _stored(dataset: Dataset, frame: int) -> NDArray[np.integer[Any]]:
    """Values as stored: (rows, columns), or RGB (rows, columns, 3). Bits beside those stored are cleared."""
    from pydicom.pixels.decoders.base import get_decoder  # noqa: PLC0415  an extra
    from pydicom.uid import RLELossless  # noqa: PLC0415  an extra

    syntax = _syntax(dataset)
    decoder = get_decoder(syntax)
    values, _ = decoder.as_array(
        dataset,
        index=frame,
        decoding_plugin=_plugin(syntax, decoder.available_plugins),
        correct_unused_bits=False,  # type: ignore[arg-type]  # pydicom annotates it wrongly
    )
    low = int(dataset.get("HighBit", dataset.BitsStored - 1)) + 1 - int(dataset.BitsStored)
    # Codecs of whole values know no bits beside them; RLE keeps words as they are.
    as_words = not syntax.is_encapsulated or syntax == RLELossless
    return _cleared(values, int(dataset.BitsStored), low if as_words else 0)


def _plugin(syntax: Any, there: Sequence[str]) -> str:
    """The same decoder on every machine, where it is there; of 8-bit JPEG the one that dcmtk agrees with."""
    from pydicom.uid import JPEGBaseline8Bit  # noqa: PLC0415  an extra

    preferred = ("pillow", "pylibjpeg") if syntax == JPEGBaseline8Bit else ("pylibjpeg",)
    return next((name for name in (*preferred, *there) if name in there), "")


def _cleared(values: NDArray[Any], bits: int, low: int) -> NDArray[np.integer[Any]]:
    """Bits `low` to `low + bits - 1` of each value, with its sign (PS3.5 8.1.1)."""
    spare = 8 * values.itemsize - bits
    if low < 0 or low > spare:
        raise UnreadableImageError(f"damaged (DICOM with {bits} bits from bit {low} on)")
    cleared: NDArray[np.integer[Any]] = np.right_shift(np.left_shift(values, spare - low), spare)
    return cleared


def _padding(dataset: Dataset, stored: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
    """Which pixels are none of the image (PS3.3 C.7.5.1.1.2)."""
    first = dataset.get("PixelPaddingValue")
    if first is None:
        return np.zeros(stored.shape, dtype=np.bool_)
    last = dataset.get("PixelPaddingRangeLimit")
    ends = [_as_stored(value, dataset) for value in (first, first if last is None else last)]
    return (stored >= min(ends)) & (stored <= max(ends))


def _as_stored(value: int, dataset: Dataset) -> int:
    """Some files write a padding of -2000 as 63536."""
    bits = int(dataset.BitsAllocated)
    signed = int(dataset.get("PixelRepresentation", 0))
    wrapped = int(value) % 2**bits
    return int(wrapped - 2**bits) if signed and wrapped >= 2 ** (bits - 1) else wrapped


def _palette_colours(dataset: Dataset, stored: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
    from pydicom.pixels.processing import apply_color_lut  # noqa: PLC0415  an extra

    colours = apply_color_lut(stored, dataset)[:, :, :3]
    return colours if colours.dtype == np.uint8 else (colours >> 8).astype(np.uint8)
