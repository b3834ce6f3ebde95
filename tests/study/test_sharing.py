"""Leases and shared studies, on a real PostgreSQL server."""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import sqlalchemy as sa

from medfathom.definitions.load import load_definition
from medfathom.errors import StorageError
from medfathom.study.driver import Driver
from medfathom.study.open import open_study
from medfathom.study.sharing import Alone, Shared


@pytest.fixture
def engine(postgresql: str) -> Iterator[sa.Engine]:
    engine = sa.create_engine(postgresql)
    yield engine
    with engine.begin() as connection:
        connection.execute(sa.text("drop table medfathom_leases"))
    engine.dispose()


def test_a_trial_has_one_owner(engine: sa.Engine) -> None:
    first, second = Shared(engine, 60.0), Shared(engine, 60.0)
    assert first.claim(7)
    assert first.claim(7)
    assert not second.claim(7)
    assert second.renew([7], force=True) == set()
    assert first.renew([7, 8], force=True) == {7}
    first.release([7])
    assert second.claim(7)


def test_a_lease_that_ran_out_is_anyones_once(engine: sa.Engine) -> None:
    lapsed = Shared(engine, seconds=-1.0)
    assert lapsed.claim(7)
    others = [Shared(engine, 60.0) for _ in range(4)]
    assert [other.claim(7) for other in others] == [True, False, False, False]
    assert lapsed.renew([7]) == set()


def test_many_claim_and_one_gets_it(engine: sa.Engine) -> None:
    drivers = [Shared(engine, 60.0) for _ in range(6)]
    got: list[int] = []
    threads = [
        threading.Thread(target=lambda d=d: got.extend(t for t in range(5) if d.claim(t))) for d in drivers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == [0, 1, 2, 3, 4]


def test_who_else_holds_a_trial(engine: sa.Engine) -> None:
    mine, other, lapsed = Shared(engine, 60.0), Shared(engine, 60.0), Shared(engine, -1.0)
    for driver, trial in ((mine, 1), (other, 2), (lapsed, 3), (other, 4)):
        assert driver.claim(trial)
    assert mine.held_by_others([1, 2, 3, 5]) == {2}


def test_leases_are_renewed_now_and_then(engine: sa.Engine) -> None:
    """A third of a lease's time must have passed; until then the storage is not asked."""
    one, other = Shared(engine, 60.0), Shared(engine, 60.0)
    assert other.claim(7)
    assert one.renew([7]) == {7}
    assert one.renew([7], force=True) == set()
    one.seconds = 0.0
    assert one.renew([7]) == set()


def test_a_driver_alone_has_every_trial(tmp_path: Path) -> None:
    file = tmp_path / "new" / "x.db"
    with Alone.locking(file, "demo") as alone, alone.exclusively(), alone.at_work_on(1):
        assert alone.claim(7)
        alone.release([7])
        assert alone.renew([7, 8], force=True) == {7, 8}
        assert alone.held_by_others([7]) == set()
        assert not alone.anyone_at_work_on(1)
        with pytest.raises(StorageError, match="another run of 'demo'"), Alone.locking(file, "demo"):
            pass
        with Alone.locking(file, "another"):
            pass
    with Alone.locking(file, "demo"):
        pass


def _open(url: str, name: str, *, fresh: bool = False) -> AbstractContextManager[Driver]:
    config = load_definition("demo", ["budget.trials=6", "sampler=random", f"name={name}"])
    return open_study(config, url, "data", fresh=fresh)


def test_two_drivers_share_a_study_without_doing_a_trial_twice(workdir: Path, postgresql: str) -> None:
    with _open(postgresql, "shared") as one, _open(postgresql, "shared") as two:
        taken = [(driver, driver.assign()) for driver in (one, two, one, two, two, two)]
        assert sorted(a.number for _, a in taken if a) == list(range(6))
        assert one.assign() is None
        assert two.adopt() == []
        for driver, assignment in taken:
            assert not driver.done()
            driver.complete(assignment.number, 0.8, {})
        assert one.counts().complete == 6


def test_a_driver_that_lost_its_trial_does_not_end_it(workdir: Path, postgresql: str) -> None:
    with _open(postgresql, "lost") as slow, _open(postgresql, "lost") as quick:
        assignment = slow.assign()
        assert assignment
        slow.report(assignment.number, 1, 0.6)
        slow._ownership.seconds = -1.0
        slow.renew(force=True)
        adopted = quick.adopt()
        assert [a.number for a in adopted] == [assignment.number]
        assert adopted[0].reported == {1: 0.6}
        slow.fail(assignment.number, "came late", {})
        assert quick.counts().failed == 0
        quick.complete(assignment.number, 0.9, {})
        slow.complete(assignment.number, 0.1, {})
        assert [t.value for t in quick.trials()] == [0.9]


def test_what_a_run_leaves_is_free_at_once(workdir: Path, postgresql: str) -> None:
    with _open(postgresql, "left") as first:
        left = first.assign()
    with _open(postgresql, "left") as second:
        assert left
        assert [a.number for a in second.adopt()] == [left.number]


def test_fresh_does_not_take_a_study_from_a_run_that_has_no_trial_yet(workdir: Path, postgresql: str) -> None:
    with _open(postgresql, "begun", fresh=True) as first:
        with (
            pytest.raises(StorageError, match=r"'begun' cannot be set aside.*without --fresh"),
            _open(postgresql, "begun", fresh=True),
        ):
            pass
        with _open(postgresql, "begun") as second:
            assert second.assign()
        assert first.assign()
    with _open(postgresql, "begun", fresh=True) as anew:
        assert anew.trials() == []


def test_fresh_does_not_take_a_study_with_a_trial_in_other_hands(workdir: Path, postgresql: str) -> None:
    with _open(postgresql, "cut") as first:
        number = first.assign().number  # type: ignore[union-attr]
        trial_id = first._open[number]
    gone = Shared(sa.create_engine(postgresql, poolclass=sa.NullPool), 60.0)
    assert gone.claim(trial_id)  # a run whose connections broke
    with pytest.raises(StorageError, match=rf"trial {number} is"), _open(postgresql, "cut", fresh=True):
        pass
    gone.release([trial_id])
    with _open(postgresql, "cut", fresh=True) as anew:
        assert anew.trials() == []


def test_a_run_whose_connections_were_cut_ends_in_order(workdir: Path, postgresql: str) -> None:
    with _open(postgresql, "severed") as driver:
        assert driver.assign()
        with sa.create_engine(postgresql, poolclass=sa.NullPool).begin() as connection:
            connection.execute(
                sa.text(
                    "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() "
                    "and datname = current_database()"
                )
            )
