"""The searcher by itself: what becomes of a trial whose worker is gone."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from optuna.trial import TrialState

from fake_work import quick
from medfathom.definitions.load import load_definition
from medfathom.scheduling.cluster import Slots
from medfathom.scheduling.halt import Halt
from medfathom.scheduling.messages import Lost, RunSettings
from medfathom.scheduling.searcher import AskTell
from medfathom.study.connection import default_url
from medfathom.study.driver import Driver
from medfathom.study.open import open_study
from medfathom.study.watcher import Watcher


@pytest.fixture
def driver(workdir: Path) -> Iterator[Driver]:
    config = load_definition("demo", ["budget.trials=3", "sampler=random", "scheduler=none"])
    with open_study(config, default_url(), "data") as opened:
        yield opened


def searcher_of(driver: Driver, folder: Path) -> AskTell:
    settings = RunSettings(driver.config, folder, 1, "cpu", folder, "data", work=quick)
    slots = Slots(cpus_per_trial=1, gpus_per_trial=0.0, concurrent=2, cpus_alone=2, nodes=2)
    return AskTell(driver, Watcher(), Halt(driver.config, driver), slots, settings)


def test_a_worker_gone_before_it_took_a_trial_is_no_failure_of_the_trial(
    driver: Driver, workdir: Path
) -> None:
    searcher = searcher_of(driver, workdir)
    first = searcher.suggest("a")["order"].assignment
    searcher.lost["a"] = Lost("the worker was lost", began=False)
    searcher.on_trial_complete("a", error=True)
    assert [t.state for t in driver.trials()] == [TrialState.RUNNING]
    assert searcher.suggest("b")["order"].assignment == first
    searcher.lost["b"] = Lost("the worker was lost (ActorDiedError: killed)")
    searcher.on_trial_complete("b", error=True)
    (trial,) = driver.trials()
    assert trial.state == TrialState.FAIL
    assert trial.user_attrs["stop_reason"] == "the worker was lost (ActorDiedError: killed)"
