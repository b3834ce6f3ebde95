"""A connection to an Optuna storage: SQLite or PostgreSQL."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy as sa
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from medfathom.errors import RunError, StorageError, cause_of
from medfathom.files import home
from medfathom.study.sharing import one_driver_at_a_time
from medfathom.study.trial_rows import Storage
from medfathom.text import command
from medfathom.urls import parsed, shown, sqlite_file

SQLITE_TIMEOUT_S = 60.0


def default_url() -> str:
    """SQLite under `home`."""
    return f"sqlite:///{home() / 'medfathom.db'}"


class _SyncedStorage(Storage):
    """On SQLite: what belongs to a checkpoint is on the disk as long as the checkpoint may be there.

    After a power cut a trial whose end was lost would begin anew, its checkpoint gone; and the number of one
    whose beginning was lost would be given to another, which would take its checkpoint. So the log is synced
    at a trial's first report, and at its end: two waits for the disk, not one for each of its thirty commits.
    """

    def __init__(self, url: str, engine_kwargs: dict[str, Any], file: Path) -> None:
        super().__init__(url, engine_kwargs=engine_kwargs)
        self._log = Path(f"{file.resolve()}-wal")
        self._reported: set[int] = set()

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        super().set_trial_intermediate_value(trial_id, step, intermediate_value)
        if trial_id not in self._reported:
            self._sync()
            self._reported.add(trial_id)

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        changed = super().set_trial_state_values(trial_id, state, values)
        if state.is_finished():
            self._sync()
        return changed

    def _sync(self) -> None:
        try:
            descriptor = os.open(self._log, os.O_RDONLY)
        except FileNotFoundError:  # a file system that allows no such log: then SQLite syncs every commit
            return
        try:
            os.fsync(descriptor)
        except OSError as error:
            raise RunError(f"{self._log}: cannot be synced ({error.strerror}); is its disk well?") from None
        finally:
            os.close(descriptor)


def connect(url: str, *, create: bool) -> RDBStorage:
    """Open an Optuna storage.

    Args:
        url: SQLAlchemy's form.
        create: whether it is to be written; a SQLite file may then be created.

    Raises:
        StorageError: in one line, for a URL that is none, a file that is absent or no database, no answer,
            or, to create, a database that runs cannot share.
    """
    file = sqlite_file(url)
    if file is not None:
        if not create and not file.is_file():
            raise StorageError(f"{file}: no such storage; `{command('run', 'STUDY')}` creates it")
        file.parent.mkdir(parents=True, exist_ok=True)
        engine_kwargs: dict[str, Any] = {"connect_args": {"timeout": SQLITE_TIMEOUT_S}}
    else:
        if create:
            _check_lockable(url)
        engine_kwargs = {"pool_pre_ping": True}
    # Whoever only reads has no end at which to let go of connections: each lives for one question.
    engine_kwargs |= {"poolclass": sa.QueuePool, "pool_size": 2} if create else {"poolclass": sa.NullPool}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            # Two drivers that begin at once would both create the tables.
            with one_driver_at_a_time(sa.create_engine(url, poolclass=sa.NullPool)):
                if file is not None and create:
                    storage: RDBStorage = _SyncedStorage(url, engine_kwargs, file)
                else:
                    storage = Storage(url, engine_kwargs=engine_kwargs)
    except (sa.exc.SQLAlchemyError, StorageInternalError, ImportError, RuntimeError) as error:
        reason = cause_of(error)
        raise StorageError(f"{shown(url)}: cannot be opened ({reason})") from None
    if file is not None and create:
        _make_commits_cheap(storage.engine)
    return storage


def _check_lockable(url: str) -> None:
    """On another server two drivers could both take the last trial of a budget, or each other's trials."""
    name = parsed(url).get_backend_name()
    if name not in ("sqlite", "postgresql"):
        raise StorageError(
            f"--storage {shown(url)}: runs are kept in SQLite and PostgreSQL, not in {name}; "
            "such as sqlite:///file.db or postgresql+psycopg://user@host/database"
        )


def check_url(url: str) -> None:
    """Raise StorageError for a URL that is none, or a server that does not answer, or that runs cannot share;
    creates no file."""
    if sqlite_file(url) is None:
        close(connect(url, create=True))


def _make_commits_cheap(engine: sa.Engine) -> None:
    """Write-ahead log, synced before it is moved into the file, and by `_SyncedStorage`: readers never block
    the run, a crash of the machine at worst loses the last commits and never the file."""

    @sa.event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    engine.dispose()


def close(storage: RDBStorage) -> None:
    """Let go of a storage's connections."""
    storage.remove_session()
    storage.engine.dispose()
