"""What Pillow reads: BMP, GIF and WebP whole; of others the header and the orientation."""

from __future__ import annotations

import warnings
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from medfathom.data.pixels import MAX_PIXELS, Header, Opened, Samples, UnreadableImageError

_ORIENTATION = 0x0112
"""EXIF and TIFF tag."""

# Pillow warns between its limit and twice that, and raises above: here both raise.
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)


def pillow_open(file: BinaryIO, kind: str) -> Image.Image:
    """Read the header only. Raises UnreadableImageError."""
    file.seek(0)
    try:
        return Image.open(file, formats=[kind])
    except UnidentifiedImageError:
        raise UnreadableImageError(f"damaged or truncated (a {kind} file without a valid header)") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UnreadableImageError(f"more than {MAX_PIXELS:,} pixels") from None


def orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; 1 where there is none or it is no such number."""
    turn = image.getexif().get(_ORIENTATION, 1)
    return turn if turn in range(1, 9) else 1


def header(file: BinaryIO, kind: str) -> Header:
    """Raises UnreadableImageError."""
    return _header(pillow_open(file, kind), kind)


def opened(content: bytes, kind: str) -> Opened:
    """Raises UnreadableImageError."""
    image = pillow_open(BytesIO(content), kind)

    def samples(_: int) -> Samples:
        image.load()
        values: NDArray[Any] = np.asarray(image.convert(_plain_mode(image)))
        return Samples(
            values if values.ndim == 3 else values[:, :, None], white=255, orientation=orientation(image)
        )

    return Opened(_header(image, kind), samples)


def _header(image: Image.Image, kind: str) -> Header:
    if getattr(image, "n_frames", 1) > 1:
        raise UnreadableImageError(f"an animated {kind}; one image is expected in a file")
    if image.mode not in ("1", "L", "P", "RGB", "RGBA"):
        raise UnreadableImageError(f"{kind} of Pillow's mode {image.mode}; save it as PNG")
    colour = image.mode in ("RGB", "RGBA")
    if image.mode == "P":
        palette = np.array(image.getpalette() or [0, 0, 0]).reshape(-1, 3)
        colour = bool((palette != palette[:, :1]).any())
    return Header(*image.size, colour, deep=False)


def _plain_mode(image: Image.Image) -> str:
    if "transparency" in image.info or image.mode == "RGBA":
        return "RGBA"
    return "L" if image.mode in ("1", "L") else "RGB"
