"""A study on a database server that goes away and comes back."""

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from medfathom.definitions.load import load_definition
from medfathom.study import patience
from medfathom.study.open import open_study
from medfathom.study.read import read_study as load


def test_a_restart_of_the_server_is_waited_out(
    workdir: Path, postgresql: str, postgresql_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "OUTAGE_POLL_S", 0.1)
    said = []
    config = load_definition("demo", ["name=outage", "sampler=random"])
    with open_study(config, postgresql, "data", tell=said.append) as driver:
        first = driver.assign()
        assert first
        postgresql_server.stop()
        back = threading.Timer(1.0, postgresql_server.start)
        back.start()
        driver.report(first.number, 1, 0.7)
        driver.complete(first.number, 0.7, {"epochs": 1})
        back.join()
        second = driver.assign()
        assert second
        assert [t.state for t in driver.trials()] == [TrialState.COMPLETE, TrialState.RUNNING]
    assert any("waiting for the storage" in line for line in said)


RUN = """
import sys
from pathlib import Path
from fake_work import slow
from medfathom.definitions.load import load_definition
from medfathom.terminal.progress import PlainLines
from medfathom.scheduling import run_trials
from medfathom.study import patience
from medfathom.study.open import open_study
from rich.console import Console
config = load_definition("demo", ["name=restarted", "budget.trials=6", "budget.epochs=4", "sampler=random"])
with open_study(config, sys.argv[1], "data", tell=lambda line: print(line, flush=True)) as driver:
    print("halted:", run_trials(config, driver, PlainLines(Console()), Path("."), work=slow), flush=True)
"""


def test_a_restart_under_a_running_study(workdir: Path, postgresql: str, postgresql_server: Any) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", RUN, postgresql], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as driver:
        assert driver.stdout
        said = []
        for line in driver.stdout:
            said.append(line)
            if line.startswith("trial"):
                break
        postgresql_server.stop()
        for line in driver.stdout:
            said.append(line)
            if line.startswith("waiting for the storage"):
                break
        postgresql_server.start()
        said.append(driver.stdout.read())
    assert "halted: \n" in said[-1], "".join(said)
    trials = load(postgresql, "restarted").get_trials()
    assert [t.number for t in trials] == list(range(6))
    assert all(t.state in (TrialState.COMPLETE, TrialState.PRUNED) for t in trials)
    for trial in trials:
        assert list(trial.intermediate_values) == list(range(1, trial.user_attrs["epochs"] + 1))
