"""The searcher by itself: what becomes of a trial whose worker is gone."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from optuna.trial import TrialState

import fake_work
from fake_work import quick
from medfathom.definitions.load import load_definition
from medfathom.scheduling.cluster import Slots
from medfathom.scheduling.halt import Halt
from medfathom.scheduling.messages import Lost, Parcel, RunSettings
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
    return AskTell(driver, Watcher(), Halt(driver.config, driver), lambda: slots, settings)


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


def last_result(driver: Driver, parcel: Parcel) -> dict[str, object]:
    """A trial's last epoch, with a model."""
    settings = RunSettings(driver.config, Path(), 1, "cpu", Path(), "data")
    return replace(fake_work.result(settings, driver.config.budget.epochs, 0.9), parcel=parcel).to_tune()


def made(folder: Path) -> Path:
    """A model folder that a worker made."""
    (folder / "head").mkdir(parents=True)
    (folder / "weights").write_bytes(bytes(range(256)))
    (folder / "head" / "config.json").write_text("{}")
    return folder


def test_a_model_is_written_where_the_driver_is(driver: Driver, workdir: Path) -> None:
    searcher = searcher_of(driver, workdir)
    searcher.suggest("a")
    source, target = made(workdir / "node" / "trial-00000"), workdir / "driver" / "trial-00000"
    result = last_result(driver, Parcel.pack(source, target))
    assert not source.exists()
    searcher.on_trial_complete("a", result)
    assert (target / "weights").read_bytes() == bytes(range(256))
    assert sorted(p.relative_to(target).as_posix() for p in target.rglob("*") if p.is_file()) == [
        "head/config.json",
        "weights",
    ]
    assert [t.state for t in driver.trials()] == [TrialState.COMPLETE]
    assert result["parcel"].files == {}  # Tune keeps the result  # type: ignore[attr-defined]


def test_a_trial_whose_model_cannot_be_written_failed(driver: Driver, workdir: Path) -> None:
    searcher = searcher_of(driver, workdir)
    searcher.suggest("a")
    (workdir / "driver").write_text("a file where the folder should be")
    parcel = Parcel.pack(made(workdir / "trial-00000"), workdir / "driver" / "trial-00000")
    searcher.on_trial_complete("a", last_result(driver, parcel))
    (trial,) = driver.trials()
    assert trial.state == TrialState.FAIL
    assert trial.user_attrs["stop_reason"].startswith(f"its model cannot be written to {parcel.folder} (")
