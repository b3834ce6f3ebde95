"""Several drivers, one database server: work shared, a dead driver's trials taken over."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from optuna.trial import TrialState

from medfathom.storage import load_study as load

DRIVER = """
import sys
from pathlib import Path
from fake_work import slow
from medfathom import leases
from medfathom.definitions import load_study
from medfathom.progress import PlainLines
from medfathom.scheduling import run_trials
from medfathom.storage import open_ledger
from rich.console import Console
leases.LEASE_S = 4.0
config = load_study("demo", [f"name={sys.argv[2]}", "budget.trials=10", "budget.epochs=4", "sampler=random"])
with open_ledger(config, sys.argv[1], "data") as ledger:
    print("halted:", run_trials(config, ledger, PlainLines(Console()), Path("cache"), work=slow), flush=True)
"""


def driver(url: str, name: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, url, name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_for_a_trial(process: subprocess.Popen[str]) -> None:
    assert process.stdout
    seen = []
    for line in process.stdout:
        seen.append(line)
        if line.startswith("trial"):
            return
    pytest.fail("the driver ended: " + "".join(seen))


def test_two_drivers_share_a_study_and_one_is_killed(workdir: Path, postgresql: str) -> None:
    name = "two"
    with driver(postgresql, name) as one, driver(postgresql, name) as two:
        wait_for_a_trial(one)
        os.kill(one.pid, signal.SIGKILL)
        printed = two.communicate(timeout=150)[0]
        one.communicate(timeout=150)
    assert "halted: \n" in printed
    trials = load(postgresql, name).get_trials()
    assert [t.number for t in trials] == list(range(10))
    assert {t.state for t in trials} <= {TrialState.COMPLETE, TrialState.PRUNED}
    assert len({tuple(t.params.items()) for t in trials}) == 10
    for trial in trials:
        assert list(trial.intermediate_values) == list(range(1, len(trial.intermediate_values) + 1))
