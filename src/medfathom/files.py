"""Where files lie, one atomic write, SHA-256."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path

_CHUNK = 2**20


def write_atomically(
    path: Path, content: str | bytes | Callable[[Path], object], *, sync: bool = True
) -> None:
    """Write a temporary file in the same folder, then rename it: readers see the old content or the new.

    When the writing fails, the old content stays and the temporary file is removed.

    Args:
        path: the file; its folder must exist.
        content: text (UTF-8), bytes, or a function that writes the content to the path that it is given.
        sync: wait until the content is on the disk before the rename. Without it, a power cut can leave a
            torn file: only where readers notice that, and the waiting costs time.

    Raises:
        OSError: the disk is full, the folder is not there or cannot be written to; it names the file.
    """
    # A random name: unique in threads and processes, and on machines that share the folder.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        if callable(content):
            content(temporary)
        else:
            temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        if sync:
            with temporary.open("r+b") as file:
                os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)  # a write that fails does not name its file
        raise
    finally:
        temporary.unlink(missing_ok=True)


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
