"""An image file, or a frame of a file with several: a stack is read once for its frames."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from medfathom.data.images import read_bytes


@dataclass(frozen=True)
class ImageFile:
    """What a decoder needs to know of an image.

    Attributes:
        path: its file.
        n_pixels: of the image.
        frame: of a stack, from 0 on; None: the file is one image.
    """

    path: Path
    n_pixels: int = 0
    frame: int | None = None

    def __str__(self) -> str:
        return frame_name(str(self.path), self.frame)

    def content(self) -> tuple[bytes, str]:
        """The file's bytes, and a SHA-256: of them, or of the stack's SHA-256 and the frame's number.

        Raises UnreadableImageError.
        """
        if self.frame is None:
            content = read_bytes(self.path)
            return content, hashlib.sha256(content).hexdigest()
        content, digest = _stack(self.path, _changed(self.path))
        return content, hashlib.sha256(f"{digest} {self.frame}".encode()).hexdigest()


def frame_name(name: str, frame: int | None) -> str:
    """How an image is called: its file, and of a stack the frame, from 1 on."""
    return name if frame is None else f"{name}#frame {frame + 1}"


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
