"""A study whose driver and workers are killed at random moments ends as if nothing had happened."""

import os
from pathlib import Path

import pytest
from optuna.trial import TrialState

from killing import EPOCHS, run_and_kill
from medfathom.study.connection import default_url
from medfathom.study.read import read_study

KILLS = int(os.environ.get("MEDFATHOM_KILLS", "3"))
"""benchmarks/kills.py asks for 20."""
TRIALS = 12 + 2 * KILLS
"""So many that no study is over before its kills are."""


@pytest.mark.parametrize("server", [False, True], ids=["sqlite", "postgresql"])
def test_random_kills(workdir: Path, server: bool, request: pytest.FixtureRequest) -> None:
    if server and "MEDFATHOM_KILLS" not in os.environ:
        pytest.skip("takes minutes; benchmarks/kills.py runs it (here test_shared_study.py kills a driver)")
    url = request.getfixturevalue("postgresql") if server else default_url()
    done = run_and_kill(url, TRIALS, KILLS, seed=1)
    print(f"{done}")  # noqa: T201  for benchmarks/kills.py
    assert done.drivers + done.workers == KILLS
    trials = read_study(url, "killed").get_trials()
    assert [t.number for t in trials] == list(range(TRIALS))
    assert {t.state for t in trials} <= {TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL}
    assert len({tuple(t.params.items()) for t in trials}) == TRIALS
    for trial in trials:
        steps = list(trial.intermediate_values)
        assert steps == list(range(1, len(steps) + 1))
        if trial.state == TrialState.FAIL:
            assert "worker was lost" in trial.user_attrs["stop_reason"]  # killed in all three of its workers
        else:
            assert len(steps) == trial.user_attrs["epochs"]
            assert (len(steps) == EPOCHS) == (trial.state == TrialState.COMPLETE)
