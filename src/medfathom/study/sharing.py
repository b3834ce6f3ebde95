"""Which driver works on which trial: `Alone` on a SQLite file, `Shared` on a database server.

On a server several drivers may work on one study. Each trial has an owner, which holds a lease on it and
renews the lease. Where a lease ran out its driver died, and another one may adopt the trial; should the
former owner come back, it finds its lease gone and drops the trial. The database's clock counts, not the
drivers'.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Protocol

import sqlalchemy as sa
from filelock import FileLock, Timeout

from medfathom.errors import StorageError

LEASE_S = 120.0
"""How long a trial stays its owner's after the last renewal."""

RENEWALS = 3
"""How often a driver renews its leases in the time that they last."""

CREATION_S = 60.0
"""How long a process waits for another one that opens the same SQLite file."""

LOCK_KEY = 0x6D656466
"""Of the advisory lock under which drivers create things and take new trials: "medf"."""

_TABLE = sa.Table(
    "medfathom_leases",
    sa.MetaData(),
    sa.Column("trial_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("owner", sa.String(32), nullable=False),
    sa.Column("until", sa.Float, nullable=False),
)
_NOW: sa.ColumnElement[float] = sa.literal_column("extract(epoch from clock_timestamp())", sa.Float)


class Ownership(Protocol):
    """Which trials are this driver's, among all drivers of a study. Used from the driver's main thread alone.

    Where the storage does not answer each method raises one of `patience.UNANSWERED`.
    """

    def exclusively(self) -> AbstractContextManager[None]:
        """Keep other drivers from creating, beginning or adopting anything in the block. Do not nest it."""

    def claim(self, trial_id: int) -> bool:
        """Take a trial that no other driver holds. True: it is ours."""

    def renew(self, trial_ids: Iterable[int], *, force: bool = False) -> set[int]:
        """Hold on to trials; returns those that are still ours.

        To be called often: without `force` it asks the storage only now and then.
        """

    def release(self, trial_ids: Iterable[int]) -> None:
        """Let go of trials: ended ones, or ones that another run may go on with at once."""

    def held_by_others(self, trial_ids: Iterable[int]) -> set[int]:
        """Those of the trials that other drivers hold."""

    def at_work_on(self, study_id: int) -> AbstractContextManager[None]:
        """Let other drivers see that this one has the study open while the block runs."""

    def anyone_at_work_on(self, study_id: int) -> bool:
        """Whether a driver has the study open."""

    def start_number(self, n_past: int) -> int:
        """A number that differs between drivers, and between the starts of one; `n_past` trials are there."""


class Alone:
    """The only driver of a study in a SQLite file: every trial is its own."""

    @classmethod
    @contextmanager
    def locking(cls, file: Path, name: str) -> Iterator[Alone]:
        """Keep other runs of the study away from the file; the lock dies with its process.

        Raises:
            StorageError: another run holds it, or its folder cannot be written.
        """
        busy = f"another run of {name!r} holds it; wait for it, or share the work through PostgreSQL"
        with _locked(file, f"{file.name}.{name}.lock", busy, seconds=0):
            yield cls()

    def exclusively(self) -> AbstractContextManager[None]:
        """There is nobody to keep away."""
        return nullcontext()

    def claim(self, trial_id: int) -> bool:
        """Always True."""
        return True

    def renew(self, trial_ids: Iterable[int], *, force: bool = False) -> set[int]:
        """All of them."""
        return set(trial_ids)

    def release(self, trial_ids: Iterable[int]) -> None:
        """Nothing to do."""

    def held_by_others(self, trial_ids: Iterable[int]) -> set[int]:
        """None of them."""
        return set()

    def at_work_on(self, study_id: int) -> AbstractContextManager[None]:
        """The lock on the file says so already."""
        return nullcontext()

    def anyone_at_work_on(self, study_id: int) -> bool:
        """Nobody else."""
        return False

    def start_number(self, n_past: int) -> int:
        """The same for the same number of past trials, so that a study can be repeated; no trial's number."""
        return 10**6 + n_past


def unwritable(file: Path, error: OSError) -> StorageError:
    """A storage's folder that cannot be written: a full disk, a read-only file system, no permission."""
    return StorageError(
        f"{file}: cannot be written ({error.strerror or error}); make its folder writable, or name another "
        "with --storage or MEDFATHOM_STORAGE"
    )


class Shared:
    """One of several drivers of a study on a PostgreSQL server: it holds leases on its trials."""

    def __init__(self, engine: sa.Engine, seconds: float | None = None) -> None:
        """`seconds`: how long a lease lasts; `LEASE_S` when none is given."""
        self.owner = uuid.uuid4().hex
        self.seconds = LEASE_S if seconds is None else seconds
        self._engine = engine
        self._renewed = time.monotonic()
        with self.exclusively():
            _TABLE.create(engine, checkfirst=True)

    def exclusively(self) -> AbstractContextManager[None]:
        """See `one_driver_at_a_time`."""
        return one_driver_at_a_time(self._engine)

    def claim(self, trial_id: int) -> bool:
        """Take a trial that nobody holds, or whose lease ran out. True: it is ours."""
        until = _NOW + self.seconds
        free = (_TABLE.c.trial_id == trial_id) & ((_TABLE.c.until < _NOW) | (_TABLE.c.owner == self.owner))
        with self._engine.begin() as connection:
            taken = connection.execute(sa.update(_TABLE).where(free).values(owner=self.owner, until=until))
            if taken.rowcount:
                return True
        try:
            with self._engine.begin() as connection:
                row = sa.select(sa.literal(trial_id), sa.literal(self.owner), until)
                connection.execute(sa.insert(_TABLE).from_select(["trial_id", "owner", "until"], row))
        except sa.exc.IntegrityError:
            return False
        return True

    def renew(self, trial_ids: Iterable[int], *, force: bool = False) -> set[int]:
        """Prolong the leases on trials; returns those that are still ours."""
        wanted = list(trial_ids)
        due = time.monotonic() - self._renewed > self.seconds / RENEWALS
        if not wanted or not (force or due):
            return set(wanted)
        mine = _TABLE.c.trial_id.in_(wanted) & (_TABLE.c.owner == self.owner)
        with self._engine.begin() as connection:
            connection.execute(sa.update(_TABLE).where(mine).values(until=_NOW + self.seconds))
            kept = set(connection.execute(sa.select(_TABLE.c.trial_id).where(mine)).scalars())
        self._renewed = time.monotonic()
        return kept

    def release(self, trial_ids: Iterable[int]) -> None:
        """End the leases on trials."""
        wanted = list(trial_ids)
        if not wanted:
            return
        mine = _TABLE.c.trial_id.in_(wanted) & (_TABLE.c.owner == self.owner)
        with self._engine.begin() as connection:
            connection.execute(sa.delete(_TABLE).where(mine))

    def held_by_others(self, trial_ids: Iterable[int]) -> set[int]:
        """Those of the trials on which other drivers have a lease that has not run out."""
        theirs = (_TABLE.c.owner != self.owner) & (_TABLE.c.until >= _NOW)
        wanted = sa.select(_TABLE.c.trial_id).where(_TABLE.c.trial_id.in_(list(trial_ids)) & theirs)
        with self._engine.connect() as connection:
            return set(connection.execute(wanted).scalars())

    @contextmanager
    def at_work_on(self, study_id: int) -> Iterator[None]:
        """Hold a lock that `anyone_at_work_on` asks for: a driver that starts holds no lease yet."""
        # A connection of its own: the lock lives and dies with it. A dead one is closed without a word.
        engine = sa.create_engine(self._engine.url, poolclass=sa.NullPool, pool_reset_on_return=None)
        with engine.connect() as connection:
            connection.execute(sa.text(f"select pg_advisory_lock_shared({LOCK_KEY}, {study_id})"))
            connection.commit()
            yield

    def anyone_at_work_on(self, study_id: int) -> bool:
        """Whether a driver has the study open, this one included."""
        with self._engine.connect() as connection:
            free = sa.text(f"select pg_try_advisory_xact_lock({LOCK_KEY}, {study_id})")
            return not connection.execute(free).scalar_one()

    def start_number(self, n_past: int) -> int:
        """Another one for each driver and start."""
        return int(self.owner, 16)


@contextmanager
def one_creator_at_a_time(file: Path) -> Iterator[None]:
    """Keep other processes of this machine from creating the same SQLite file in the block.

    Raises:
        StorageError: its folder cannot be written, or another process has not ended for `CREATION_S`.
    """
    busy = f"another run has been opening it for {CREATION_S:.0f} s; end it"
    with _locked(file, f"{file.name}.lock", busy, seconds=CREATION_S):
        yield


@contextmanager
def _locked(file: Path, lock_name: str, busy: str, *, seconds: float) -> Iterator[None]:
    """Hold a lock file beside a storage's file; raises StorageError, with `busy` where another holds it."""
    lock = FileLock(file.with_name(lock_name))
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=seconds)
    except Timeout:
        raise StorageError(f"{file}: {busy}") from None
    except OSError as error:
        raise unwritable(file, error) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def one_driver_at_a_time(engine: sa.Engine) -> Iterator[None]:
    """Keep other drivers of the same PostgreSQL database out of the block; elsewhere do nothing."""
    if engine.dialect.name != "postgresql":
        yield
        return
    with engine.connect() as connection:
        connection.execute(sa.text(f"select pg_advisory_lock({LOCK_KEY})"))
        try:
            yield
        finally:
            with suppress(sa.exc.OperationalError):  # a connection that broke has let go of the lock
                connection.execute(sa.text(f"select pg_advisory_unlock({LOCK_KEY})"))
                connection.commit()
