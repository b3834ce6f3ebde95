"""NIfTI volumes, slice by slice. nibabel is imported when a file is read."""

from __future__ import annotations

import logging
import math
import zlib
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib import import_module
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from medfathom.data.pixels import Header, Opened, Pixels, Samples, UnreadableImageError

Window = tuple[float, float]
"""Centre and width, in a file's own units: HU for CT."""

SUFFIXES = (".nii", ".nii.gz")

RANGE = (0.5, 99.5)
"""Percentiles of a volume that become black and white where no window is given."""

_STARTS = (b"\x5c\1\0\0", b"\0\0\1\x5c", b"\x1c\2\0\0", b"\0\0\2\x1c")
"""348 and 540, the sizes of the headers of versions 1 and 2."""

_GZIP = b"\x1f\x8b"

MOST_BYTES = 4 * 2**30
"""Of a volume that is unpacked in memory; 512 x 512 x 1,000 voxels of 32 bits are 1 GiB."""


def is_nifti(start: bytes) -> bool:
    """Whether a file that starts like this is NIfTI, compressed by gzip or not."""
    if start.startswith(_GZIP):
        try:
            start = zlib.decompressobj(31).decompress(start, 4)
        except zlib.error:
            return False
    return start[:4] in _STARTS


@dataclass(frozen=True)
class Nifti:
    """Reads NIfTI files.

    Attributes:
        window: centre and width in the file's units (HU for CT); None: percentiles 0.5 and 99.5 of the volume
            become black and white. Bytes without a scale are shown as they are, whatever it says.
        axis: that counts the slices, 0 to 2. In a file that states its orientation the axes are left-right,
            back-front and foot-head, however they are stored; in others they are as stored.
    """

    window: Window | None = None
    axis: int = 2

    def stack_header(self, file: BinaryIO, /) -> Header:
        """Size and number of slices. Raises UnreadableImageError."""
        file.seek(0)
        image = _image(file.read())
        shape = _shape(image)
        across, down = (shape[a] for a in range(3) if a != self.axis)
        return Header(across, down, colour=False, deep=not _is_bytes(image), frames=shape[self.axis])

    def frame(self, content: bytes, index: int, /) -> Opened:
        """A slice, from 0 on. Raises UnreadableImageError."""
        values = _slices(content, self.window, self.axis)[index][:, :, None]
        deep = values.dtype == np.uint16
        header = Header(values.shape[1], values.shape[0], colour=False, deep=deep)
        return Opened(header, partial(_samples, values))


def _samples(values: Pixels, _: int) -> Samples:
    return Samples(values, int(np.iinfo(values.dtype).max), scaled=True)


def _nibabel() -> Any:
    # What it finds in a damaged header it also prints, to whoever did not ask.
    logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)
    try:
        return import_module("nibabel")
    except ImportError:
        raise UnreadableImageError("a NIfTI file; install medfathom[nifti] to read it") from None


def _unpacked(content: bytes) -> bytes:
    """A gzip file's content; one that would fill the memory is refused before it does."""
    unpacking = zlib.decompressobj(31)
    unpacked = unpacking.decompress(content, MOST_BYTES)
    if unpacking.unconsumed_tail:
        raise UnreadableImageError(f"more than {MOST_BYTES // 2**30} GiB when it is unpacked")
    if not unpacking.eof:
        raise UnreadableImageError("truncated")
    return unpacked


def _image(content: bytes) -> Any:
    nibabel = _nibabel()
    if content.startswith(_GZIP):
        content = _unpacked(content)
    one = content[:4] in _STARTS[:2]
    kind = nibabel.Nifti1Image if one else nibabel.Nifti2Image
    image = kind.from_stream(BytesIO(content))
    needed = image.dataobj.offset + math.prod(map(int, image.shape)) * image.get_data_dtype().itemsize
    if len(content) < needed:
        raise UnreadableImageError(f"damaged or truncated (it needs {needed} bytes, it has {len(content)})")
    return image


def _orientation(image: Any) -> NDArray[Any] | None:
    """For each axis as stored the one that it is, and its direction; None where the file does not say."""
    said = int(image.header["sform_code"]) > 0 or int(image.header["qform_code"]) > 0
    found: NDArray[Any] | None = _nibabel().io_orientation(image.affine) if said else None
    return found


def _shape(image: Any) -> tuple[int, int, int]:
    """Along the axes that `Nifti.axis` counts. Raises UnreadableImageError where it is no grey volume."""
    stored = tuple(map(int, image.shape))
    if len(stored) < 3 or any(n > 1 for n in stored[3:]) or image.get_data_dtype().kind not in "uif":
        raise UnreadableImageError(
            f"NIfTI of shape {stored} and type {image.get_data_dtype()}; three axes of numbers are read"
        )
    found = _orientation(image)
    axes = range(3) if found is None else found[:, 0].astype(int).tolist()
    first, second, third = (stored[list(axes).index(a)] for a in range(3))
    return first, second, third


def _is_bytes(image: Any) -> bool:
    return bool(image.get_data_dtype() == np.uint8 and (image.dataobj.slope, image.dataobj.inter) == (1, 0))


@lru_cache(maxsize=1)
def _slices(content: bytes, window: Window | None, axis: int) -> Pixels:
    """(slices, rows, columns) as they are shown: the patient's right is left; head or face is on top."""
    image = _image(content)
    shape = _shape(image)
    oriented = _orientation(image) is not None
    if oriented:
        image = _nibabel().as_closest_canonical(image)
    values = np.asanyarray(image.dataobj).reshape(shape)
    if oriented:
        values = np.flip(values, tuple(a for a in range(3) if a != axis))
    return _shown(np.moveaxis(values, axis, 0).swapaxes(1, 2), window)


def _shown(values: NDArray[Any], window: Window | None) -> Pixels:
    if values.dtype == np.uint8:
        return values
    finite = values[np.isfinite(values)]
    if not finite.size:
        raise UnreadableImageError("NIfTI without a finite value")
    if window is None:
        low, high = (float(v) for v in np.percentile(finite, RANGE))
    else:
        low, high = window[0] - window[1] / 2, window[0] + window[1] / 2
    if low >= high:
        raise UnreadableImageError(f"NIfTI whose values are nearly all {low:g}; give dataset.window")
    light = np.nan_to_num((values.astype(np.float32) - low) / (high - low), nan=0, posinf=1, neginf=0)
    shown: Pixels = np.rint(np.clip(light, 0, 1) * 65535).astype(np.uint16)
    return shown
