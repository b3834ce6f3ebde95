"""Pixels: from an image of any shape to the square one the network sees."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from PIL import Image

Fit = Literal["squash", "pad", "crop"]


def fit_square(pixels: np.ndarray, size: int, fit: Fit) -> np.ndarray:
    """Resize to (size, size, channels), antialiased bilinear, keeping the type.

    Args:
        pixels: (h, w, channels), uint8 or uint16.
        size: side of the result, pixels.
        fit: `squash` changes the aspect, `pad` fills up with black, `crop` cuts to the centre.
    """
    if pixels.shape[:2] == (size, size):
        return pixels
    if fit == "crop":
        side = min(pixels.shape[:2])
        top, left = (pixels.shape[0] - side) // 2, (pixels.shape[1] - side) // 2
        pixels = pixels[top : top + side, left : left + side]
    if fit != "pad":
        return _resize(pixels, size, size)
    scale = size / max(pixels.shape[:2])
    height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
    square = np.zeros((size, size, pixels.shape[2]), pixels.dtype)
    top, left = (size - height) // 2, (size - width) // 2
    square[top : top + height, left : left + width] = _resize(pixels, height, width)
    return square


def _resize(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    if pixels.shape[:2] == (height, width):
        return pixels
    if pixels.dtype == np.uint8:
        image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
        return _with_channels(np.asarray(image.resize((width, height), Image.Resampling.BILINEAR)))
    planes = [_resize_plane(pixels[:, :, c], height, width, pixels.dtype) for c in range(pixels.shape[2])]
    return np.stack(planes, axis=2)


def _resize_plane(plane: np.ndarray, height: int, width: int, dtype: np.dtype[Any]) -> np.ndarray:
    """Pillow's 16-bit modes cannot be resized well; its float mode can."""
    image = Image.fromarray(plane.astype(np.float32))
    resized = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
    return np.clip(np.rint(resized), 0, np.iinfo(dtype).max).astype(dtype)


def _with_channels(pixels: np.ndarray) -> np.ndarray:
    return pixels if pixels.ndim == 3 else pixels[:, :, None]
