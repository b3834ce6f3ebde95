"""Checkpoints beside a node's own disk: in a folder or bucket that every node reaches, by fsspec URL.

Without one, a trial whose node died begins anew on another; with one, it goes on from its last epoch.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import fsspec

from medfathom.errors import DefinitionError
from medfathom.files import write_atomically
from medfathom.urls import shown


class RemoteCheckpoints:
    """A place for checkpoints, each under its name (`STUDY-UID/trial-00001.pt`)."""

    def __init__(self, url: str) -> None:
        """Take any fsspec URL: a mounted folder, `s3://bucket/folder`, …

        Raises:
            DefinitionError: no such protocol, or its package is not installed.
        """
        self._url = url
        try:
            self._files: Any
            self._files, self._root = fsspec.core.url_to_fs(url)
        except (ValueError, ImportError) as error:
            reason = str(error).splitlines()[0]
            raise DefinitionError(
                f"resources.checkpoint_url = {shown(url)!r}: cannot be used ({reason})"
            ) from None

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def store(self, name: str, local: Path) -> None:
        """Copy a checkpoint there, whole or not at all. Raises OSError."""
        path = self._path(name)
        self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
        beside = f"{path}.{os.getpid()}.part"
        self._files.put_file(str(local), beside)
        self._files.mv(beside, path)

    def fetch(self, name: str, local: Path) -> bool:
        """Copy a checkpoint here, whole or not at all; False where there is none. Raises OSError."""
        path = self._path(name)
        if not self._files.exists(path):
            return False
        local.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(local, lambda part: self._files.get_file(path, str(part)))
        return True

    def remove(self, name: str) -> None:
        """Remove a checkpoint that is of no more use. Raises OSError."""
        path = self._path(name)
        if self._files.exists(path):
            self._files.rm_file(path)
