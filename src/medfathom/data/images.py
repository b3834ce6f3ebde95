"""Image files: decoded correctly whatever they hold, then made square at the network's image size."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

Pixels = NDArray[np.unsignedinteger[Any]]
"""(h, w, channels), uint8 or uint16."""

Fit = Literal["squash", "pad", "crop"]

FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")

MAX_PIXELS = 89_478_485
"""Pillow's own limit against decompression bombs: an RGB image of 256 MiB."""

MAX_FILE_BYTES = 2**29
"""No image within the limit above needs a larger file."""

MIN_SIDE = 8
"""Pixels. A smaller image is a placeholder or a damaged file."""

_ORIENTATION, _PHOTOMETRIC = 0x0112, 0x0106
"""EXIF and TIFF tags."""

# Pillow warns between its limit and twice that, and raises above: here both raise.
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)


class UnreadableImageError(Exception):
    """One image cannot be used; the message is the reason. Preparation collects and reports all of them."""


@dataclass(frozen=True)
class Header:
    """What an image file says before its pixels are read: sizes in pixels, before EXIF orientation."""

    width: int
    height: int
    colour: bool
    deep: bool
    """Grey with more than 8 bits."""


def read_bytes(path: Path) -> bytes:
    """A file's content. Raises UnreadableImageError."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except PermissionError:
        raise UnreadableImageError("may not be read (permissions)") from None
    except FileNotFoundError:
        raise UnreadableImageError("no such file") from None
    except OSError as error:
        raise UnreadableImageError(f"cannot be read ({error.strerror or error})") from None
    if len(content) > MAX_FILE_BYTES:
        raise UnreadableImageError(f"larger than {MAX_FILE_BYTES >> 20} MiB")
    return content


def read_header(path: Path) -> Header:
    """Look at a file without decoding its pixels. Raises UnreadableImageError."""
    try:
        with path.open("rb") as file, _open(file) as image:
            return _header(image)
    except PermissionError:
        raise UnreadableImageError("may not be read (permissions)") from None
    except FileNotFoundError:
        raise UnreadableImageError("no such file") from None
    except IsADirectoryError:
        raise UnreadableImageError("is a folder") from None
    except OSError as error:
        raise UnreadableImageError(f"cannot be read ({error.strerror or error})") from None


@dataclass(frozen=True)
class Decoded:
    """Pixels, and the image's size in the file, pixels."""

    pixels: Pixels
    width: int
    height: int


def decode(
    content: bytes,
    channels: int,
    dtype: np.dtype[Any],
    *,
    bits: int = 16,
    size: int | None = None,
    fit: Fit = "squash",
) -> Decoded:
    """Decode an image file.

    Palettes are resolved, transparent pixels are shown on black, EXIF orientation is applied, colour becomes
    grey by ITU-R 601 luma, and 16-bit values are scaled so that `bits` bits reach white. Colour of 16 bits
    keeps its upper 8, as Pillow reads it.

    Args:
        content: the file's bytes.
        channels: 1 or 3, of the result.
        dtype: uint8 or uint16, of the result; 8-bit images are scaled up to uint16, never 16-bit ones down.
        bits: bits in use of 16-bit images.
        size: side of the square result, pixels; None: keep the image's size. A JPEG more than twice as large
            is decoded at 1/2, 1/4 or 1/8 first.
        fit: how it is made square.

    Raises:
        UnreadableImageError: truncated, not an image, too large, too small, of a kind that is not supported.
    """
    with _open(BytesIO(content)) as image:
        header = _header(image)
        if size is not None and image.format == "JPEG":
            image.draft(None, (2 * size, 2 * size))
        try:
            white_is_zero = header.deep and image.format == "TIFF" and _tiff_tag(image, _PHOTOMETRIC) == 0
            turned = image.getexif().get(_ORIENTATION, 1) != 1
            upright = ImageOps.exif_transpose(image) if turned else image
            upright.load()
        except (OSError, ValueError, SyntaxError, EOFError) as error:
            raise UnreadableImageError(f"damaged or truncated ({_first_line(error)})") from None
        if header.deep:
            pixels = _deep(upright, bits, white_is_zero)
            pixels = pixels if size is None else fit_square(pixels, size, fit)
        else:
            shallow = _shallow(upright, channels)
            pixels = _as_array(shallow if size is None else _fit_image(shallow, size, fit))
    return Decoded(_as_type(_with_channels(pixels, channels), dtype), header.width, header.height)


def _open(file: Any) -> Image.Image:
    try:
        return Image.open(file, formats=FORMATS)
    except UnidentifiedImageError:
        file.seek(0)
        kind = "empty file" if not file.read(1) else "not a PNG, JPEG, TIFF or BMP image"
        raise UnreadableImageError(kind) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UnreadableImageError(f"more than {MAX_PIXELS:,} pixels") from None
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise UnreadableImageError(f"damaged or truncated ({_first_line(error)})") from None


def _header(image: Image.Image) -> Header:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise UnreadableImageError(f"{width}x{height}: more than {MAX_PIXELS:,} pixels")
    if min(width, height) < MIN_SIDE:
        raise UnreadableImageError(f"{width}x{height}: a side below {MIN_SIDE} pixels")
    if _has_more_pages(image):
        raise UnreadableImageError("several pages; one image is expected in a file")
    mode = image.mode
    if mode == "F":
        raise UnreadableImageError("floating-point pixels; save it with 8 or 16 bits")
    colour = mode not in ("1", "L", "LA", "La", "I") and not mode.startswith("I;")
    if mode == "P" and image.palette is not None:
        colour = not _is_grey(np.array(image.getpalette() or [0, 0, 0]).reshape(-1, 3))
    return Header(width, height, colour, mode == "I" or mode.startswith("I;"))


def _has_more_pages(image: Image.Image) -> bool:
    if image.format == "TIFF":  # n_frames would read every page's directory
        return bool(getattr(getattr(image, "tag_v2", None), "next", 0))
    return int(getattr(image, "n_frames", 1)) > 1


def _is_grey(colours: NDArray[Any]) -> bool:
    return bool((colours == colours[:, :1]).all())


def _tiff_tag(image: Image.Image, tag: int) -> Any:
    return getattr(image, "tag_v2", {}).get(tag)


def full_range(values: NDArray[Any], bits: int) -> Pixels:
    """Scale values of `bits` bits to uint16, 65535 being white.

    Raises:
        UnreadableImageError: a value has more bits.
    """
    top = 2**bits - 1
    if top == 65535 and values.dtype == np.uint16:
        return values
    if values.min() < 0 or values.max() > top:
        raise UnreadableImageError(
            f"values from {values.min()} to {values.max()}, outside 0 to {top} (dataset.bits = {bits})"
        )
    scaled: Pixels = (values.astype(np.int64) * 65535 // top).astype(np.uint16)
    return scaled


def _deep(image: Image.Image, bits: int, white_is_zero: bool) -> Pixels:
    values = np.asarray(image)
    scaled = full_range(values, bits)
    if white_is_zero:  # Pillow inverts such images of 8 bits, but not those of 16
        scaled = full_range(2**bits - 1 - values.astype(np.int64), bits)
    return scaled[:, :, None]


def _shallow(image: Image.Image, channels: int) -> Image.Image:
    """As L or RGB, without transparency."""
    if "transparency" in image.info or image.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        image = image.convert("RGBA")
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image)
    mode = "L" if channels == 1 else "RGB"
    return image if image.mode == mode else image.convert(mode)


def _as_array(image: Image.Image) -> Pixels:
    pixels: Pixels = np.asarray(image)
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def _with_channels(pixels: Pixels, channels: int) -> Pixels:
    return pixels if pixels.shape[2] == channels else np.repeat(pixels, channels, axis=2)


def _as_type(pixels: Pixels, dtype: np.dtype[Any]) -> Pixels:
    if pixels.dtype == dtype:
        return pixels
    if dtype == np.uint16:
        widened: Pixels = pixels.astype(np.uint16) * np.uint16(257)
        return widened
    raise UnreadableImageError("has 16 bits, but the other images have 8")


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


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
    return _as_array(_fit_image(Image.fromarray(planes[0] if len(planes) == 1 else pixels), size, fit))


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
