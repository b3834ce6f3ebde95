"""An image file, or a part of a file with several: a stack is read once for its frames."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from medfathom.data.images import read_bytes
from medfathom.data.slides import Tile

Part = int | Tile | None
"""Of a stack the frame, from 0 on; of a whole slide the tile; None: the file is one image."""


@dataclass(frozen=True)
class ImageFile:
    """What a decoder needs to know of an image.

    Attributes:
        path: its file.
        n_pixels: of the image.
        part: which image of the file.
    """

    path: Path
    n_pixels: int = 0
    part: Part = None

    def __str__(self) -> str:
        return part_name(str(self.path), self.part)

    def content(self) -> tuple[bytes, str]:
        """The file's bytes, and a SHA-256: of them, or of the stack's SHA-256 and the frame's number.

        Raises UnreadableImageError.
        """
        if self.part is None:
            content = read_bytes(self.path)
            return content, hashlib.sha256(content).hexdigest()
        content, digest = _stack(self.path, _changed(self.path))
        return content, hashlib.sha256(f"{digest} {self.part}".encode()).hexdigest()


def part_name(name: str, part: Part) -> str:
    """How an image is called: its file, and of a stack the frame, from 1 on, or of a slide the tile."""
    if part is None:
        return name
    return f"{name}#frame {part + 1}" if isinstance(part, int) else f"{name}#{part}"


def _changed(path: Path) -> tuple[int, int]:
    try:
        facts = path.stat()
    except OSError:
        return 0, 0  # reading it says why
    return facts.st_size, facts.st_mtime_ns


@lru_cache(maxsize=1)
def _stack(path: Path, _changed: tuple[int, int]) -> tuple[bytes, str]:
    content = read_bytes(path)
    return content, hashlib.sha256(content).hexdigest()
