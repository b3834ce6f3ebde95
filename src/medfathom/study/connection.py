"""A connection to an Optuna storage: SQLite or PostgreSQL."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

import optuna
import sqlalchemy as sa
from optuna.exceptions import StorageInternalError

from medfathom.errors import StorageError, cause_of
from medfathom.files import home
from medfathom.study.sharing import one_creator_at_a_time, one_driver_at_a_time
from medfathom.study.storage import Storage
from medfathom.text import command
from medfathom.urls import parsed, shown, sqlite_file

SQLITE_TIMEOUT_S = 60.0
PATIENT_WITH_NETWORK = {
    "connect_timeout": 15,
    "keepalives_idle": 20,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 35_000,
}
"""libpq's options, in seconds, the last in milliseconds. A network that is cut while an answer is awaited
would else be noticed by Linux after two hours; so it is after 35 s. A query may take as long as it wants."""
LIBPQ = {"psycopg", "psycopg2"}


def default_url() -> str:
    """SQLite under `home`."""
    return f"sqlite:///{home() / 'medfathom.db'}"


def connect(url: str, *, create: bool) -> Storage:
    """Open an Optuna storage: see `connect_as`."""
    return connect_as(Storage, url, create=create)


S = TypeVar("S", bound=Storage)


def connect_as(form: type[S], url: str, *, create: bool) -> S:
    """Open an Optuna storage.

    Args:
        form: what it is opened as.
        url: SQLAlchemy's form.
        create: whether it is to be written; a SQLite file may then be created.

    Raises:
        StorageError: in one line, for a URL that is none, a file that is absent or no database, no answer,
            or, to create, a database that runs cannot share.
    """
    file = sqlite_file(url)
    if file is not None and not create and not file.is_file():
        raise StorageError(f"{file}: no such storage; `{command('run', 'STUDY')}` creates it")
    if file is None and create:
        _check_lockable(url)
    pool = {"poolclass": sa.QueuePool, "pool_size": 2} if create else READING
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            # Two drivers that begin at once would both create the tables.
            with _alone(url, file if create else None):
                storage = form(url, engine_kwargs={**_options(url), **pool})
    except (sa.exc.SQLAlchemyError, StorageInternalError, ImportError, RuntimeError) as error:
        reason = cause_of(error)
        if file is not None and file.is_file() and not os.access(file.parent, os.W_OK):
            reason += ": SQLite writes beside a file to read it; copy it to a folder that can be written to"
        raise StorageError(f"{shown(url)}: cannot be opened ({reason})") from None
    if file is not None and create:
        _log_ahead(storage.engine)
    return storage


READING: Mapping[str, object] = {"poolclass": sa.NullPool}
"""Whoever only reads has no end at which to let go of connections: each lives for one question."""


def engine_to_read(url: str) -> sa.Engine:
    """Plain queries to a storage that `connect` has opened before: it is not checked again."""
    return sa.create_engine(url, **_options(url), **READING)


def _options(url: str) -> Mapping[str, object]:
    """SQLAlchemy's for every connection."""
    if sqlite_file(url) is not None:
        return {"connect_args": {"timeout": SQLITE_TIMEOUT_S}}
    return {"pool_pre_ping": True, "connect_args": _of_network(url)}


def _of_network(url: str) -> dict[str, int]:
    """When a server that is silent is given up; what the URL says itself counts."""
    known = parsed(url)
    if known.get_backend_name() != "postgresql" or known.get_driver_name() not in LIBPQ:
        return {}
    return {key: value for key, value in PATIENT_WITH_NETWORK.items() if key not in known.query}


def _alone(url: str, file: Path | None) -> AbstractContextManager[None]:
    if file is not None:
        return one_creator_at_a_time(file)
    return one_driver_at_a_time(sa.create_engine(url, poolclass=sa.NullPool))


def _check_lockable(url: str) -> None:
    """On another server two drivers could both take the last trial of a budget, or each other's trials."""
    name = parsed(url).get_backend_name()
    if name not in ("sqlite", "postgresql"):
        raise StorageError(
            f"--storage {shown(url)}: studies can be stored in SQLite or PostgreSQL, not in {name}; give for "
            "example sqlite:///file.db or postgresql+psycopg://user@host/database"
        )


def check_url(url: str) -> None:
    """Raise StorageError for a URL that is none, or a server that does not answer, or that runs cannot share;
    creates no file."""
    if sqlite_file(url) is None:
        close(connect(url, create=True))


def _log_ahead(engine: sa.Engine) -> None:
    """Write-ahead log, on the disk at the end of every commit.

    Readers never block the run. After a power cut nothing that was committed is lost: a trial whose end was
    lost would begin anew, its checkpoint gone; the number of one whose beginning was lost would be given to
    another, which would take its checkpoint.
    """

    @sa.event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")

    engine.dispose()


def close(storage: Storage) -> None:
    """Let go of a storage's connections."""
    storage.remove_session()
    storage.engine.dispose()
