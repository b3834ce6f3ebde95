"""Storage that is locked, full, read-only or gone while a study uses it; a clock that jumps."""

import sqlite3
import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from optuna.trial import TrialState

from medfathom import ledger as ledgers
from medfathom.definitions import StudyConfig, load_study
from medfathom.errors import RunError, StorageError
from medfathom.leases import Leases
from medfathom.storage import default_url, open_ledger

DATABASE = Path("storage/medfathom.db")


@pytest.fixture
def config(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> StudyConfig:
    monkeypatch.setattr(ledgers, "OUTAGE_POLL_S", 0.05)
    return load_study("demo", ["budget.trials=5", "sampler=random"])


def test_a_locked_database_is_waited_for(config: StudyConfig) -> None:
    with open_ledger(config, default_url(), "data") as ledger:
        other = sqlite3.connect(DATABASE, isolation_level=None, check_same_thread=False)
        other.execute("begin exclusive")
        unlock = threading.Timer(1.0, lambda: other.execute("rollback"))
        unlock.start()
        began = time.monotonic()
        assignment = ledger.assign()
        assert time.monotonic() - began > 0.5
        unlock.join()
        other.close()
        assert assignment
        ledger.complete(assignment.number, 0.9, {})
        assert ledger.counts().complete == 1


def test_a_full_disk_is_waited_out(config: StudyConfig) -> None:
    """SQLite's own limit on pages gives the error that a full disk gives."""
    said: list[str] = []
    with open_ledger(config, default_url(), "data", wait=said.append) as ledger:
        engine = ledger._rdb.engine
        pages = sqlite3.connect(DATABASE).execute("pragma page_count").fetchone()[0]

        @sa.event.listens_for(engine, "checkout")
        def _limit(connection: sqlite3.Connection, *_: object) -> None:
            connection.execute(f"pragma max_page_count={2**30 if said else pages}")

        numbers = []
        for _ in range(5):
            assignment = ledger.assign()
            assert assignment
            ledger.complete(assignment.number, 0.9, {f"attribute_{i}": "x" * 400 for i in range(40)})
            numbers.append(assignment.number)
        assert [t.number for t in ledger.trials(TrialState.COMPLETE)] == numbers == [0, 1, 2, 3, 4]
    assert any("full" in line for line in said)


def test_a_storage_that_is_gone_ends_the_run(config: StudyConfig) -> None:
    with open_ledger(config, default_url(), "data") as ledger:
        assignment = ledger.assign()
        assert assignment
        DATABASE.rename("elsewhere.db")
        with pytest.raises(RunError, match=r"medfathom\.db: the storage is gone"):
            ledger.complete(assignment.number, 0.9, {})
        Path("elsewhere.db").rename(DATABASE)
    with open_ledger(config, default_url(), "data") as ledger:
        (left,) = ledger.adopt()
        assert left.number == assignment.number


def test_a_read_only_storage_is_said_in_one_line(config: StudyConfig) -> None:
    with open_ledger(config, default_url(), "data"):
        pass
    url = f"sqlite:///file:{DATABASE.absolute()}?mode=ro&uri=true"
    changed = load_study("demo", ["budget.trials=5", "sampler=random", "name=another"])
    with (
        pytest.raises(StorageError, match=r"cannot be written \(.*readonly"),
        open_ledger(changed, url, "data"),
    ):
        pass


def test_a_server_that_stays_away_ends_the_run(
    config: StudyConfig, monkeypatch: pytest.MonkeyPatch, postgresql: str, postgresql_server: object
) -> None:
    monkeypatch.setattr(ledgers, "OUTAGE_S", 0.5)
    gone = load_study("demo", ["name=gone", "sampler=random"])
    said: list[str] = []
    with open_ledger(gone, postgresql, "data", wait=said.append) as ledger:
        assignment = ledger.assign()
        assert assignment
        postgresql_server.stop()  # type: ignore[attr-defined]
        try:
            with pytest.raises(RunError, match="has not answered for"):
                ledger.report(assignment.number, 1, 0.7)
        finally:
            postgresql_server.start()  # type: ignore[attr-defined]
        ledger.report(assignment.number, 1, 0.7)
    with open_ledger(gone, postgresql, "data") as ledger:
        (left,) = ledger.adopt()
        assert left.reported == {1: 0.7}
    assert said


def test_a_clock_that_jumps_loses_no_lease(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases count by the database's clock: a driver whose own jumps neither loses trials nor takes them."""
    engine = sa.create_engine(f"sqlite:///{workdir / 'x.db'}")
    one, two = Leases(engine, 60.0), Leases(engine, 60.0)
    assert one.claim(1)
    real = time.time
    for jump in (86_400.0, -86_400.0):
        monkeypatch.setattr(time, "time", lambda jump=jump: real() + jump)
        assert not two.claim(1)
        assert one.renew([1]) == {1}
    engine.dispose()
