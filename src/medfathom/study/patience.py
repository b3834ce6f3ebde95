"""Waiting for a storage that does not answer: a server that restarts, a locked file, a full disk."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa
from optuna.exceptions import StorageInternalError

from medfathom.errors import RunError, cause_of
from medfathom.study.storage import Storage
from medfathom.text import command

OUTAGE_S = 600.0
"""How long a run waits for a storage that does not answer before it gives up."""

OUTAGE_POLL_S = 1.0
"""How long it waits before it tries again."""

UNANSWERED = (StorageInternalError, sa.exc.OperationalError, sa.exc.InternalError)
"""What is raised where a storage does not answer, or takes no writes: a server that became a standby."""

T = TypeVar("T")


class Patience:
    """Does what a storage is asked for; while the storage does not answer, says so and tries again."""

    def __init__(self, storage: Storage, file: Path | None, tell: Callable[[str], None]) -> None:
        """`file`: the database, where it is one file (SQLite). `tell` gets a line for each failed try."""
        self._storage = storage
        self._file = file
        self._file_id = _file_id(file)
        self._tell = tell

    def __call__(self, action: Callable[[], T]) -> T:
        """The action's result. An action may be done twice: once without its answer reaching us.

        Raises:
            RunError: the storage did not answer for `OUTAGE_S`, or its file is not there any more.
        """
        deadline = time.monotonic() + OUTAGE_S
        while True:
            self._check_file()
            try:
                return action()
            except UNANSWERED as error:
                reason = cause_of(error)
            if time.monotonic() > deadline:
                where = self._storage.engine.url.render_as_string(hide_password=True)
                raise RunError(
                    f"{where}: the storage has not answered for {OUTAGE_S:.0f} s ({reason}); "
                    f"`{command('run')}` continues once it does"
                )
            self._tell(f"waiting for the storage ({reason})")
            time.sleep(OUTAGE_POLL_S)

    def _check_file(self) -> None:
        """SQLite would go on writing into a file that was deleted or replaced."""
        if _file_id(self._file) != self._file_id:
            raise RunError(
                f"{self._file}: the storage is gone (moved, deleted or replaced); restore it, then "
                f"`{command('run')}` continues"
            )


def _file_id(file: Path | None) -> int | None:
    return file.stat().st_ino if file is not None and file.exists() else None
