"""From the values of a file to pixels as they are stored: one path for every format."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medfathom.data.pseudonyms import Subject

Pixels = NDArray[np.unsignedinteger[Any]]
"""(h, w, channels), uint8 or uint16."""

Fit = Literal["squash", "pad", "crop"]

MAX_PIXELS = 89_478_485
"""Pillow's own limit against decompression bombs: an RGB image of 256 MiB."""

MIN_SIDE = 8
"""Pixels. A smaller image is a placeholder or a damaged file."""

WHITE = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}


class UnreadableImageError(Exception):
    """One image cannot be used; the message is the reason. Preparation collects and reports all of them."""


@contextmanager
def damage() -> Iterator[None]:
    """Errors of decoders as reasons: on damaged files they raise nearly anything."""
    try:
        yield
    except (UnreadableImageError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001  whatever a decoder raises is a reason
        first = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise UnreadableImageError(f"damaged or truncated ({first})") from None


@dataclass(frozen=True)
class Header:
    """What an image file says before its pixels are read: sizes in pixels, before EXIF orientation.

    Raises UnreadableImageError for an image that is too large or too small.
    """

    width: int
    height: int
    colour: bool
    deep: bool
    """More than 8 bits."""
    subject: Subject | None = None
    """Of a DICOM file."""
    frames: int | None = None
    """Images in a stack, all of this form; None: the file is one image."""
    laterality: str = ""
    """R, L, or "" where the file does not say."""

    def __post_init__(self) -> None:
        if self.width * self.height > MAX_PIXELS:
            raise UnreadableImageError(f"{self.width}x{self.height}: more than {MAX_PIXELS:,} pixels")
        if min(self.width, self.height) < MIN_SIDE:
            raise UnreadableImageError(f"{self.width}x{self.height}: a side below {MIN_SIDE} pixels")


@dataclass(frozen=True)
class Samples:
    """The values of a file as they were written.

    Attributes:
        values: integers (h, w, 1 to 4): grey, grey and alpha, RGB, RGB and alpha. Alpha is not multiplied in.
        white: the largest value that the file can hold, from 1 to 65535; half of it where values are signed.
        orientation: as in EXIF, 1 to 8.
        zero_is_white: the largest value is black.
        scaled: `white` is what shall be white, whatever `bits` says: DICOM says its own.
    """

    values: NDArray[np.integer[Any]]
    white: int
    orientation: int = 1
    zero_is_white: bool = False
    scaled: bool = False


@dataclass(frozen=True)
class Opened:
    """An image file whose pixels are still to be read."""

    header: Header
    samples: Callable[[int], Samples]
    """Called with the side in pixels that the image must at least keep; 0: its own size."""


def to_pixels(samples: Samples, header: Header, channels: int, bits: int) -> Pixels:
    """Upright pixels of full range: uint8, or uint16 where the file is deep.

    Transparent pixels are shown on black, signed values are shifted so that the smallest becomes 0, and
    colour becomes grey by ITU-R 601 luma.

    Args:
        samples: of the file.
        header: of the file; an image without colour is grey though its values may be RGB (grey palettes).
        channels: 1 or 3, of the result.
        bits: bits in use of files with more than 8.

    Raises:
        UnreadableImageError: a value has more bits.
    """
    deep = header.deep and not samples.scaled
    white = min(samples.white, 2**bits - 1) if deep else samples.white
    values = _unsigned(samples.values, bits)
    if deep and white < samples.white:
        _check_range(_colours(values), white, bits)
    values = _without_alpha(values, white, samples.white)
    if values.shape[2] == 3 and not header.colour:
        values = values[:, :, :1]
    scaled = _scaled(values, white, np.dtype(np.uint16 if header.deep else np.uint8))
    if samples.zero_is_white:
        scaled = WHITE[scaled.dtype] - scaled
    return with_channels(upright(scaled, samples.orientation), channels)


def bits_in_use(values: NDArray[np.integer[Any]]) -> int:
    """Bits that the values need, with a bit for the sign where they are signed. Alpha does not count."""
    shown = _colours(values)
    low, high = int(shown.min()), int(shown.max())
    if shown.dtype.kind == "i":
        return max(high, ~low).bit_length() + 1
    return high.bit_length()


def _colours(values: NDArray[Any]) -> NDArray[Any]:
    """Without alpha."""
    return values[:, :, :-1] if values.shape[2] in (2, 4) else values


def _unsigned(values: NDArray[np.integer[Any]], bits: int) -> NDArray[np.integer[Any]]:
    if values.dtype.kind == "u":
        return values
    if values.dtype == np.int8:
        return (values.astype(np.int16) + 128).astype(np.uint8)
    half = 2 ** (bits - 1)
    if values.min() < -half or values.max() >= half:
        raise UnreadableImageError(
            f"values from {values.min()} to {values.max()}, outside -{half} to {half - 1} "
            f"(dataset.bits = {bits})"
        )
    shifted: NDArray[np.integer[Any]] = (values.astype(np.int32) + half).astype(np.uint16)
    return shifted


def _without_alpha(values: NDArray[np.integer[Any]], white: int, file_white: int) -> NDArray[np.integer[Any]]:
    """Shown on black. Alpha reaches the file's white, or that of the bits in use: 4095 of 65535."""
    if values.shape[2] in (1, 3):
        return values
    alpha = values[:, :, -1:]
    opaque = white if alpha.max() <= white else file_white
    if alpha.min() == opaque:
        return values[:, :, :-1]
    shown = values[:, :, :-1].astype(np.uint32) * alpha
    on_black: NDArray[np.integer[Any]] = ((shown + opaque // 2) // opaque).astype(values.dtype)
    return on_black


def full_range(values: NDArray[Any], bits: int) -> Pixels:
    """Scale values of `bits` bits to uint16, 65535 being white.

    Raises:
        UnreadableImageError: a value has more bits.
    """
    white = 2**bits - 1
    if values.dtype != np.uint16 or white < 65535:
        _check_range(values, white, bits)
    return _scaled(values, white, np.dtype(np.uint16))


def _check_range(values: NDArray[Any], white: int, bits: int) -> None:
    if values.min() < 0 or values.max() > white:
        raise UnreadableImageError(
            f"values from {values.min()} to {values.max()}, outside 0 to {white} (dataset.bits = {bits})"
        )


def _scaled(values: NDArray[Any], white: int, dtype: np.dtype[Any]) -> Pixels:
    if white == WHITE[dtype] and values.dtype == dtype:
        return values
    if values.max() > white:
        raise UnreadableImageError(f"damaged (a value of {values.max()}, above the file's white of {white})")
    scaled: Pixels = (values.astype(np.int64) * WHITE[dtype] // white).astype(dtype)
    return scaled


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """Turn and mirror an image as its EXIF orientation says (EXIF 2.3, table 6)."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def with_channels(pixels: Pixels, channels: int) -> Pixels:
    """Grey repeated to colour, or colour made grey by ITU-R 601 luma, with Pillow's weights for 8 bits."""
    if pixels.shape[2] == channels:
        return pixels
    if channels == 3:
        return np.repeat(pixels, 3, axis=2)
    red, green, blue = (pixels[:, :, c].astype(np.uint32) for c in range(3))
    luma: Pixels = ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16).astype(pixels.dtype)
    return luma[:, :, None]


def with_type(pixels: Pixels, dtype: np.dtype[Any]) -> Pixels:
    """8 bits made 16. Raises UnreadableImageError where 16 would have to be made 8."""
    if pixels.dtype == dtype:
        return pixels
    if dtype == np.uint16:
        widened: Pixels = pixels.astype(np.uint16) * np.uint16(257)
        return widened
    raise UnreadableImageError("has 16 bits, but the other images have 8")


def fit_square(pixels: Pixels, size: int, fit: Fit) -> Pixels:
    """Resize to (size, size, channels), antialiased bilinear, keeping the type.

    Args:
        pixels: an image of any size.
        size: side of the result, pixels.
        fit: `squash` changes the aspect ratio, `pad` adds black borders, `crop` keeps the centre.
    """
    if pixels.shape[:2] == (size, size):
        return pixels
    # Pillow resizes its 16-bit modes less exactly than its float mode.
    planes = [pixels[:, :, c] for c in range(pixels.shape[2])]
    if pixels.dtype == np.uint16:
        resized = [np.asarray(_fit_image(Image.fromarray(p.astype(np.float32)), size, fit)) for p in planes]
        rounded: Pixels = np.clip(np.rint(np.stack(resized, axis=2)), 0, 65535).astype(np.uint16)
        return rounded
    fitted: Pixels = np.asarray(
        _fit_image(Image.fromarray(planes[0] if len(planes) == 1 else pixels), size, fit)
    )
    return fitted if fitted.ndim == 3 else fitted[:, :, None]


def _fit_image(image: Image.Image, size: int, fit: Fit) -> Image.Image:
    """`fit_square` for Pillow's modes L, RGB and F."""
    width, height = image.size
    if (width, height) == (size, size):
        return image
    if fit == "crop":
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        return image.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))
    if fit == "squash":
        return image.resize((size, size), Image.Resampling.BILINEAR)
    scale = size / max(width, height)
    across, down = max(1, round(width * scale)), max(1, round(height * scale))
    square = Image.new(image.mode, (size, size))
    resized = image.resize((across, down), Image.Resampling.BILINEAR)
    square.paste(resized, ((size - across) // 2, (size - down) // 2))
    return square
