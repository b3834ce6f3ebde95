"""Several drivers, one database server: work shared, a dead driver's trials taken over."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from optuna.trial import TrialState

from medfathom.study.read import read_study as load

DRIVER = """
import sys
from pathlib import Path
from fake_work import slow
from medfathom.study import sharing
from medfathom.definitions.load import load_definition
from medfathom.terminal.progress import PlainLines
from medfathom.scheduling import run_trials
from medfathom.study.open import open_study
from rich.console import Console
sharing.LEASE_S = 4.0
changes = [f"name={sys.argv[2]}", "budget.trials=10", "budget.epochs=4", "sampler=random"]
config = load_definition("demo", changes)
with open_study(config, sys.argv[1], "data") as driver:
    print("halted:", run_trials(config, driver, PlainLines(Console()), Path("cache"), work=slow), flush=True)
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
