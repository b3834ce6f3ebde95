"""Tensors as a safetensors file that is never half there."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from medfathom.files import write_atomically


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file, whole or not at all.

    Args:
        path: the file; its folder must exist.
        tensors: by name, each contiguous and with memory of its own.
        metadata: texts for the file's header.

    Raises:
        OSError: the disk is full or cannot be written to.
    """

    def write(part: Path) -> None:
        try:
            save_file(dict(tensors), part, metadata)
        except SafetensorError as error:  # it has the number of the system's error in its words only
            number = re.search(r"os error (\d+)", str(error))
            if number is None:
                raise
            code = int(number.group(1))
            raise OSError(code, os.strerror(code), str(path)) from error

    write_atomically(path, write)
