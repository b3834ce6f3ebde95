"""Two drivers that get in each other's way at the worst moment, on a real PostgreSQL server."""

import threading
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import sqlalchemy as sa

from medfathom.definitions.load import load_definition
from medfathom.errors import RunError
from medfathom.study import patience
from medfathom.study.driver import Driver
from medfathom.study.open import open_study
from medfathom.study.sharing import Ownership


def _open(url: str, name: str) -> AbstractContextManager[Driver]:
    config = load_definition("demo", ["budget.trials=6", "sampler=random", f"name={name}"])
    return open_study(config, url, "data")


def test_a_trial_between_ask_and_claim_is_not_adopted(
    workdir: Path, postgresql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _open(postgresql, "begun") as one, _open(postgresql, "begun") as two:
        asked, adopted = threading.Event(), []
        ask = one.study.ask

        def slow_ask() -> object:
            trial = ask()
            asked.set()
            other.join(timeout=0.5)  # it waits for the lock
            return trial

        def adopt() -> None:
            asked.wait()
            adopted.extend(two.adopt())
            two._rdb.remove_session()  # this thread's own

        other = threading.Thread(target=adopt)
        monkeypatch.setattr(one.study, "ask", slow_ask)
        other.start()
        assignment = one.assign()
        other.join()
        assert assignment
        assert adopted == []


def test_a_trial_that_ended_since_it_was_listed_is_not_adopted(
    workdir: Path, postgresql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _open(postgresql, "ended") as one, _open(postgresql, "ended") as two:
        assignment = one.assign()
        assert assignment
        claim = two._ownership.claim

        def late_claim(trial_id: int) -> bool:
            one.complete(assignment.number, 0.8, {})
            return claim(trial_id)

        monkeypatch.setattr(two._ownership, "claim", late_claim)
        assert two.adopt() == []
        assert two.assign().number == assignment.number + 1


def test_a_driver_that_slept_through_the_end_of_its_trial_goes_on(workdir: Path, postgresql: str) -> None:
    with _open(postgresql, "slept") as slow, _open(postgresql, "slept") as quick:
        assignment = slow.assign()
        assert assignment
        slow._ownership.seconds = -1.0
        slow.renew(force=True)
        assert [a.number for a in quick.adopt()] == [assignment.number]
        assert quick.complete(assignment.number, 0.9, {"epochs": 5})
        slow.report(assignment.number, 3, 0.7)
        assert not slow.fail(assignment.number, "the worker was lost", {"epochs": 3})
        (trial,) = quick.trials()
        assert trial.user_attrs["stop_reason"] == "ran its full length"
        assert trial.user_attrs["epochs"] == 5
        assert slow.assign().number == 1


def test_what_is_written_of_a_trial_that_ended_is_not(workdir: Path, postgresql: str) -> None:
    with _open(postgresql, "late") as one:
        assignment = one.assign()
        assert assignment
        one.study.tell(assignment.number, 0.8)  # another driver, in the moment before
        one.annotate(assignment.number, {"stop_reason": "the worker was lost"})
        assert "stop_reason" not in one.trials()[0].user_attrs


def test_a_server_away_for_good_ends_in_one_line(
    workdir: Path, postgresql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(patience, "OUTAGE_S", 0.0)
    monkeypatch.setattr(patience, "OUTAGE_POLL_S", 0.0)

    def gone(*_: object) -> None:
        raise sa.exc.OperationalError("select", {}, ConnectionError("server closed the connection"))

    def run() -> None:
        config = load_definition("demo", ["budget.trials=6", "sampler=random", "name=away"])
        with open_study(config, postgresql, "data", tell=said.append) as driver:
            assert driver.assign()
            held.append((driver._ownership, list(driver._open.values())))
            monkeypatch.setattr(driver._ownership, "release", gone)
            monkeypatch.setattr(driver.study, "ask", gone)
            driver.assign()

    held: list[tuple[Ownership, list[int]]] = []
    with pytest.raises(RunError, match=r"^postgresql.*not answered for 0 s .*`medfathom run` continues"):
        run()
    assert said[-1].startswith("other runs can continue the trials of this run only after")
    monkeypatch.undo()
    ownership, trials = held[0]
    ownership.release(trials)  # other tests use the same tables
    ownership._engine.dispose()
