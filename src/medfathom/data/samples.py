"""A few images of a prepared data set as files: what the networks see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medfathom.data.prepared import PreparedData
from medfathom.errors import InputError

N_SAMPLES = 12


def write_samples(data: PreparedData, folder: Path, n: int = N_SAMPLES) -> list[Path]:
    """Write images of the validation split as 8-bit PNG files, evenly spaced over the split.

    Args:
        data: a prepared data set.
        folder: where they go; it may exist. A file is named by the image's number: `val-00017.png`.
        n: how many; all images where the split has fewer.

    Returns:
        The files.

    Raises:
        InputError: the folder cannot be written.
    """
    from PIL import Image  # noqa: PLC0415

    images = data.split("val").images
    numbers = np.unique(np.linspace(0, len(images) - 1, n).round().astype(int))
    files = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number in numbers.tolist():
            files.append(folder / f"val-{number:05d}.png")
            Image.fromarray(_as_8_bits(images[number])).save(files[-1])
    except OSError as error:
        raise InputError(f"--samples {folder}: cannot be written ({error.strerror})") from None
    return files


def _as_8_bits(image: NDArray[Any]) -> NDArray[np.uint8]:
    """(s, s, 1 or 3), uint8 or uint16 -> the upper 8 bits, as Pillow takes them."""
    shown = (image >> 8).astype(np.uint8) if image.dtype == np.uint16 else np.asarray(image)
    return shown[:, :, 0] if shown.shape[2] == 1 else shown
