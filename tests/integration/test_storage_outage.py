"""A study on a database server that goes away and comes back."""

import threading
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from medfathom import ledger as ledgers
from medfathom.definitions import load_study
from medfathom.storage import open_ledger


def test_a_restart_of_the_server_is_waited_out(
    workdir: Path, postgresql: str, postgresql_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledgers, "OUTAGE_POLL_S", 0.1)
    said = []
    config = load_study("demo", ["name=outage", "sampler=random"])
    with open_ledger(config, postgresql, "data", wait=said.append) as ledger:
        first = ledger.assign()
        assert first
        postgresql_server.stop()
        back = threading.Timer(1.0, postgresql_server.start)
        back.start()
        ledger.report(first.number, 1, 0.7)
        ledger.complete(first.number, 0.7, {"epochs": 1})
        back.join()
        second = ledger.assign()
        assert second
        assert [t.state for t in ledger.trials()] == [TrialState.COMPLETE, TrialState.RUNNING]
    assert any("waiting for the storage" in line for line in said)
