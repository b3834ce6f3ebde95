"""Storage that is locked, full, read-only or gone while a study uses it; a clock that jumps."""

import multiprocessing
import os
import socket
import sqlite3
import threading
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
import sqlalchemy as sa
from optuna.trial import TrialState

from medfathom.definitions.config import StudyConfig
from medfathom.definitions.load import load_definition
from medfathom.errors import RunError, StorageError
from medfathom.study import patience
from medfathom.study.connection import close, connect, default_url
from medfathom.study.open import open_study
from medfathom.study.sharing import Shared
from storm_storages import Relay

DATABASE = Path("storage/medfathom.db")


@pytest.fixture
def config(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> StudyConfig:
    monkeypatch.setattr(patience, "OUTAGE_POLL_S", 0.05)
    return load_definition("demo", ["budget.trials=5", "sampler=random"])


def test_a_locked_database_is_waited_for(config: StudyConfig) -> None:
    with open_study(config, default_url(), "data") as driver:
        other = sqlite3.connect(DATABASE, isolation_level=None, check_same_thread=False)
        other.execute("begin exclusive")
        unlock = threading.Timer(1.0, lambda: other.execute("rollback"))
        unlock.start()
        began = time.monotonic()
        assignment = driver.assign()
        assert time.monotonic() - began > 0.5
        unlock.join()
        other.close()
        assert assignment
        driver.complete(assignment.number, 0.9, {})
        assert driver.counts().complete == 1


def test_a_full_disk_is_waited_out(config: StudyConfig) -> None:
    """SQLite's own limit on pages gives the error that a full disk gives."""
    said: list[str] = []
    with open_study(config, default_url(), "data", tell=said.append) as driver:
        engine = driver._rdb.engine
        pages = sqlite3.connect(DATABASE).execute("pragma page_count").fetchone()[0]

        @sa.event.listens_for(engine, "checkout")
        def _limit(connection: sqlite3.Connection, *_: object) -> None:
            connection.execute(f"pragma max_page_count={2**30 if said else pages}")

        numbers = []
        for _ in range(5):
            assignment = driver.assign()
            assert assignment
            driver.complete(assignment.number, 0.9, {f"attribute_{i}": "x" * 400 for i in range(40)})
            numbers.append(assignment.number)
        assert [t.number for t in driver.trials(TrialState.COMPLETE)] == numbers == [0, 1, 2, 3, 4]
    assert any("full" in line for line in said)


def test_a_storage_that_is_gone_ends_the_run(config: StudyConfig) -> None:
    with open_study(config, default_url(), "data") as driver:
        assignment = driver.assign()
        assert assignment
        DATABASE.rename("elsewhere.db")
        with pytest.raises(RunError, match=r"medfathom\.db: the storage is gone"):
            driver.complete(assignment.number, 0.9, {})
        Path("elsewhere.db").rename(DATABASE)
    with open_study(config, default_url(), "data") as driver:
        (left,) = driver.adopt()
        assert left.number == assignment.number


def test_a_read_only_storage_is_said_in_one_line(config: StudyConfig) -> None:
    with open_study(config, default_url(), "data"):
        pass
    url = f"sqlite:///file:{DATABASE.absolute()}?mode=ro&uri=true"
    changed = load_definition("demo", ["budget.trials=5", "sampler=random", "name=another"])
    with (
        pytest.raises(StorageError, match=r"cannot be written \(.*readonly"),
        open_study(changed, url, "data"),
    ):
        pass


def test_a_folder_that_cannot_be_written_is_said_in_one_line(config: StudyConfig) -> None:
    with (
        pytest.raises(StorageError, match=r"medfathom\.db: cannot be written \(.*; make its folder writable"),
        open_study(config, "sqlite:////proc/nowhere/medfathom.db", "data"),
    ):
        pass


def test_processes_that_create_a_storage_at_once(config: StudyConfig) -> None:
    context = multiprocessing.get_context("fork")
    together = context.Barrier(4)
    processes = [context.Process(target=_create, args=(together,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4


def _create(together: Barrier) -> None:
    together.wait()
    close(connect(default_url(), create=True))


def test_a_server_that_takes_no_writes_is_waited_for(
    config: StudyConfig, postgresql: str, postgresql_server: Any
) -> None:
    """As after a failover to a standby that is not promoted yet."""
    writes = {"autocommit": True, "options": "-c default_transaction_read_only=off"}
    said: list[str] = []
    with (
        open_study(config, postgresql, "data", tell=said.append) as driver,
        psycopg.connect(postgresql_server.get_uri(), **writes) as admin,
    ):
        assignment = driver.assign()
        assert assignment
        read_only(admin, "on")
        back = threading.Timer(1.0, read_only, (admin, "off"))
        back.start()
        deadline = time.monotonic() + 30
        while not said and time.monotonic() < deadline:  # the server takes a moment to follow
            driver.renew(force=True)
        driver.complete(assignment.number, 0.7, {"epochs": 1})
        back.join()
        assert driver.counts().complete == 1
    assert "read-only" in said[0]


def test_a_network_that_is_cut_for_good_is_noticed(
    config: StudyConfig, postgresql: str, postgresql_server: Any
) -> None:
    """Keep-alive packets are the kernel's own: it is asked what it will do."""
    host = parse_qs(urlsplit(postgresql_server.get_uri()).query)["host"][0]
    relay = Relay(f"{host}/.s.PGSQL.5432")
    url = f"postgresql+psycopg://postgres@127.0.0.1:{relay.port}/{urlsplit(postgresql).path[1:]}"
    storage = connect(f"{url}?keepalives_interval=7", create=True)
    with storage.engine.connect() as connection:
        descriptor = connection.connection.dbapi_connection.fileno()  # type: ignore[union-attr]
        with socket.socket(fileno=os.dup(descriptor)) as wire:
            assert wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 20
            assert wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 7
            assert wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 35_000
    close(storage)
    relay.close()


def read_only(admin: psycopg.Connection[Any], how: Literal["on", "off"]) -> None:
    admin.execute(f"ALTER SYSTEM SET default_transaction_read_only = {how}")
    admin.execute("SELECT pg_reload_conf()")


def test_a_server_that_stays_away_ends_the_run(
    config: StudyConfig, monkeypatch: pytest.MonkeyPatch, postgresql: str, postgresql_server: object
) -> None:
    monkeypatch.setattr(patience, "OUTAGE_S", 0.5)
    gone = load_definition("demo", ["name=gone", "sampler=random"])
    said: list[str] = []
    with open_study(gone, postgresql, "data", tell=said.append) as driver:
        assignment = driver.assign()
        assert assignment
        postgresql_server.stop()  # type: ignore[attr-defined]
        try:
            with pytest.raises(RunError, match="has not answered for"):
                driver.report(assignment.number, 1, 0.7)
        finally:
            postgresql_server.start()  # type: ignore[attr-defined]
        driver.report(assignment.number, 1, 0.7)
    with open_study(gone, postgresql, "data") as driver:
        (left,) = driver.adopt()
        assert left.reported == {1: 0.7}
    assert said


def test_a_server_that_goes_where_nobody_waits_is_said_in_one_line(
    config: StudyConfig, postgresql: str, postgresql_server: Any
) -> None:
    """Attributes of the study, as the commands write them."""

    def write_while_it_is_gone() -> None:
        with open_study(config, postgresql, "data") as driver:
            postgresql_server.stop()
            driver.study.set_user_attr("leakage", "none")

    try:
        with pytest.raises(RunError, match=r"does not answer .*the same command goes on"):
            write_while_it_is_gone()
    finally:
        postgresql_server.start()


def test_a_clock_that_jumps_loses_no_lease(postgresql: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases count by the database's clock: a driver whose own jumps neither loses trials nor takes them."""
    engine = sa.create_engine(postgresql)
    one, two = Shared(engine, 60.0), Shared(engine, 60.0)
    assert one.claim(1)
    real = time.time
    for jump in (86_400.0, -86_400.0):
        monkeypatch.setattr(time, "time", lambda jump=jump: real() + jump)
        assert not two.claim(1)
        assert one.renew([1], force=True) == {1}
    one.release([1])
    engine.dispose()
