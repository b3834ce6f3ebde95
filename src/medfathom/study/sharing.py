"""Who runs a trial: an owner with a lease that it renews.

Several drivers may share a study through a database server. A trial whose lease ran out was left by a dead
one and may be adopted; its former owner, should it come back, finds its lease gone and drops the trial. The
database's clock counts, not the drivers'.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

import sqlalchemy as sa

LEASE_S = 120.0
"""How long a trial stays its owner's after the last renewal; a driver renews about every third of it."""

_TABLE = sa.Table(
    "medfathom_leases",
    sa.MetaData(),
    sa.Column("trial_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("owner", sa.String(32), nullable=False),
    sa.Column("until", sa.Float, nullable=False),
)
_CLOCKS = {
    "postgresql": "extract(epoch from clock_timestamp())",
    "sqlite": "(julianday('now') - 2440587.5) * 86400.0",
}
LOCK_KEY = 0x6D656466
"""Of the advisory lock under which drivers create things and take new trials: "medf"."""


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


@contextmanager
def at_work_on(engine: sa.Engine, study_id: int) -> Iterator[None]:
    """Let `anyone_at_work_on` see that this driver has a PostgreSQL study open; elsewhere do nothing.

    Leases alone do not tell: a driver that starts, or is between two trials, holds none.
    """
    if engine.dialect.name != "postgresql":
        yield
        return
    # A connection of its own: the lock lives and dies with it. A dead one is closed without a word.
    apart = sa.create_engine(engine.url, poolclass=sa.NullPool, pool_reset_on_return=None)
    with apart.connect() as connection:
        connection.execute(sa.text(f"select pg_advisory_lock_shared({LOCK_KEY}, {study_id})"))
        connection.commit()
        yield


def anyone_at_work_on(engine: sa.Engine, study_id: int) -> bool:
    """Whether a driver has the study open, this one included."""
    if engine.dialect.name != "postgresql":
        return False
    with engine.connect() as connection:
        free = sa.text(f"select pg_try_advisory_xact_lock({LOCK_KEY}, {study_id})")
        return not connection.execute(free).scalar_one()


class Leases:
    """One driver's leases on the trials of a storage."""

    def __init__(self, engine: sa.Engine, seconds: float) -> None:
        self.owner = uuid.uuid4().hex
        self.seconds = seconds
        self._engine = engine
        self._now: sa.ColumnElement[float] = sa.literal_column(_CLOCKS[engine.dialect.name], sa.Float)
        with one_driver_at_a_time(engine):
            _TABLE.create(engine, checkfirst=True)

    def claim(self, trial_id: int) -> bool:
        """Take a trial that nobody holds, or whose lease ran out. True: it is ours."""
        until = self._now + self.seconds
        lapsed = (_TABLE.c.trial_id == trial_id) & (
            (_TABLE.c.until < self._now) | (_TABLE.c.owner == self.owner)
        )
        with self._engine.begin() as connection:
            taken = connection.execute(sa.update(_TABLE).where(lapsed).values(owner=self.owner, until=until))
            if taken.rowcount:
                return True
        try:
            with self._engine.begin() as connection:
                row = sa.select(sa.literal(trial_id), sa.literal(self.owner), until)
                connection.execute(sa.insert(_TABLE).from_select(["trial_id", "owner", "until"], row))
        except sa.exc.IntegrityError:
            return False
        return True

    def renew(self, trial_ids: Iterable[int]) -> set[int]:
        """Hold on to trials; returns those that are still ours."""
        wanted = list(trial_ids)
        mine = _TABLE.c.trial_id.in_(wanted) & (_TABLE.c.owner == self.owner)
        with self._engine.begin() as connection:
            connection.execute(sa.update(_TABLE).where(mine).values(until=self._now + self.seconds))
            return set(connection.execute(sa.select(_TABLE.c.trial_id).where(mine)).scalars())

    def held_by_others(self, trial_ids: Iterable[int]) -> set[int]:
        """Those of the trials on which other drivers have a lease that has not run out."""
        theirs = (_TABLE.c.owner != self.owner) & (_TABLE.c.until >= self._now)
        wanted = sa.select(_TABLE.c.trial_id).where(_TABLE.c.trial_id.in_(list(trial_ids)) & theirs)
        with self._engine.connect() as connection:
            return set(connection.execute(wanted).scalars())

    def release(self, trial_ids: Iterable[int]) -> None:
        """Let go of trials, ended ones or ones that another run may go on with at once."""
        mine = _TABLE.c.trial_id.in_(list(trial_ids)) & (_TABLE.c.owner == self.owner)
        with self._engine.begin() as connection:
            connection.execute(sa.delete(_TABLE).where(mine))
