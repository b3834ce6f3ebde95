"""Where files lie, one atomic write, SHA-256."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

_CHUNK = 2**20


def write_atomically(path: Path, text: str) -> None:
    """Write beside, then rename."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def sha256_of(path: Path) -> str:
    """SHA-256 over a file, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def home() -> Path:
    """The folder of all that studies produce: `storage/` in the working folder, or MEDFATHOM_STORAGE."""
    return Path(os.environ.get("MEDFATHOM_STORAGE", "storage"))
