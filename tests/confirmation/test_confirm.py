"""What confirm does before it trains: choices, missing strata, jobs, bad input; how results are read."""

import gc
import os
import signal
import threading
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from optuna.trial import TrialState
from rich.console import Console

import fake_confirm
from medfathom import confirm, scheduling
from medfathom.confirm import Job, _jobs, _queue, _without_stopping, confirm_study
from medfathom.confirmation import efficiency
from medfathom.confirmation import worker as confirm_worker
from medfathom.confirmation.choice import choose
from medfathom.confirmation.comparison import MOST_MODELS, compare_confirmed
from medfathom.confirmation.find import (
    CONFIRMS,
    OPENINGS,
    by_configuration,
    confirmation_name,
    confirmed_folder,
    find_confirmation,
    predictions_file,
)
from medfathom.confirmation.summary import (
    analysis_records,
    interval_over_images_and_seeds,
    sampling_interval,
    summarize_confirmation,
)
from medfathom.data.prepare import prepare
from medfathom.data.prepared import PreparedData
from medfathom.definitions.config import StudyConfig
from medfathom.definitions.load import load_definition
from medfathom.errors import DataError, InputError, StorageError
from medfathom.files import home
from medfathom.metrics.auc import Z95, roc_auc_score
from medfathom.models.folder import CONFIG_FILE, WEIGHTS_FILE
from medfathom.study.connection import default_url
from medfathom.study.driver import Driver
from medfathom.study.open import open_study
from medfathom.study.read import read_studies
from medfathom.study.read import read_study as load_study_of
from medfathom.study.summary import WITHDRAWN
from medfathom.study.watcher import Watcher
from medfathom.terminal.confirmation import confirmation_text


def load(name: str, url: str | None = None) -> Any:
    return load_study_of(url or default_url(), name)


@pytest.fixture
def config(workdir: Path) -> StudyConfig:
    return load_definition(
        "demo",
        [
            "sampler=random",
            "space.architecture.role='scientific'",
            "space.architecture.choices=['tf_efficientnet_lite0', 'tf_efficientnet_lite1']",
            "space.init.value='imagenet'",
            "space.unfreeze_depth.role='scientific'",
            "space.unfreeze_depth.low=0",
            "space.unfreeze_depth.high=1",
            "budget.trials=8",
            "budget.epochs=2",
            "dataset.image_size=32",
            "dataset.n_train=24",
            "dataset.n_val=12",
            "dataset.n_test=12",
        ],
    )


@pytest.fixture
def data(config: StudyConfig) -> PreparedData:
    return prepare(config.dataset, home() / "cache")


def searched(
    config: StudyConfig, *, complete: bool = True, fingerprint: str = "data", url: str = "", ended: int = 8
) -> Any:
    """Eight trials: those of lite0 complete with rising AUC, those of lite1 stopped, the last one failed."""
    with open_study(config, url or default_url(), fingerprint) as driver:
        for assignment in islice(iter(driver.assign, None), ended):
            number = assignment.number
            facts = {"n_params": 4, "depth": 53, "family": "efficientnet", "macs": 5}
            if number == 7:
                driver.fail(number, "out of memory", facts)
            elif complete and assignment.params.architecture.endswith("0"):
                driver.complete(number, 0.7 + number / 100, facts)
            else:
                driver.report(number, 1, 0.99)
                driver.prune(number, facts, "stopped by asha at epoch 1")
    return load(config.name, url)


def test_the_best_complete_trial_of_each_stratum_is_chosen(config: StudyConfig) -> None:
    study = searched(config)
    found = choose(study)
    strata = [t.user_attrs["stratum"] for t in found.trials]
    assert len(strata) == len(set(strata))
    assert all("lite0" in stratum for stratum in strata)
    for trial in found.trials:
        same = [t for t in study.get_trials() if t.user_attrs["stratum"] == trial.user_attrs["stratum"]]
        assert trial.value == max(t.value for t in same if t.state.name == "COMPLETE")
    reasons = {m["stratum"]: m["reason"] for m in found.missing}
    assert set(strata).isdisjoint(reasons)
    assert len(strata) + len(reasons) == len(config.space.strata())
    drawn = {t.user_attrs["stratum"] for t in study.get_trials()}
    for stratum, reason in reasons.items():
        assert ("no complete trial" in reason) == (stratum in drawn)


def test_jobs_are_seed_by_seed_and_take_more_trials(config: StudyConfig) -> None:
    study = searched(config)
    jobs = _jobs(study, 2, None, [])
    n = len(choose(study).trials)
    assert [job.seed_index for job in jobs] == [0] * n + [1] * n
    assert {job.trial.number for job in _jobs(study, 1, 1, [])} == {choose(study).trials[0].number}
    complete = [t.number for t in study.get_trials() if t.state.name == "COMPLETE"]
    assert {job.trial.number for job in _jobs(study, 1, None, complete)} == set(complete)
    stopped = next(t.number for t in study.get_trials() if t.state.name == "PRUNED")
    for number, words in ((99, "no trial 99"), (stopped, "is PRUNED"), (7, "is FAIL")):
        with pytest.raises(StorageError, match=words):
            _jobs(study, 1, None, [number])
    with pytest.raises(InputError, match="--seeds 0"):
        _jobs(study, 0, None, [])
    with pytest.raises(InputError, match="--top 0"):
        _jobs(study, 1, 0, [])


def test_nothing_is_confirmed_before_a_trial_is_complete(config: StudyConfig) -> None:
    searched(config, complete=False)
    with pytest.raises(StorageError, match="no trial is complete yet"):
        confirm_study(config.name)


def test_other_data_and_a_test_split_of_one_class_are_refused(
    config: StudyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = searched(config)
    with pytest.raises(StorageError, match="was searched on other data"):
        confirm_study(config.name)
    assert "test_openings" not in load(config.name).user_attrs

    from medfathom.data import prepare  # noqa: PLC0415

    real = prepare.prepare

    def without_test(*arguments: Any, **options: Any) -> Any:
        data = real(*arguments, **options)
        from dataclasses import replace  # noqa: PLC0415

        return replace(
            data, fingerprint=study.user_attrs["dataset_fingerprint"], sizes={**data.sizes, "test": 0}
        )

    monkeypatch.setattr(prepare, "prepare", without_test)
    with pytest.raises(DataError, match="has no test split"):
        confirm_study(config.name)


def confirmed(config: StudyConfig, study: Any, seeds: int = 3) -> Any:
    """A made confirmation: known predictions of each model."""
    random = np.random.default_rng(0)
    labels = np.arange(60) % 2
    other = config.model_copy(update={"name": confirmation_name(config.name)})
    jobs = _jobs(study, seeds, None, [])
    with open_study(other, default_url(), "data") as driver:
        driver.study.set_user_attr(CONFIRMS, study.user_attrs["uid"])
        driver.budget = len(jobs)
        for job in jobs:
            keys = {"search_trial": job.trial.number, "seed_index": job.seed_index, "seed": job.seed_index}
            driver.study.enqueue_trial(
                job.trial.params, user_attrs={**keys, "stratum": job.trial.user_attrs["stratum"]}
            )
            assignment = driver.assign()
            assert assignment is not None
            assert assignment.seed == job.seed_index
            scores = labels + random.normal(0, 1, 60)
            name = f"trial-{assignment.number:05d}"
            folder = confirmed_folder(study) / name
            folder.mkdir(parents=True)
            table = {
                "name": list(map(str, range(60))),
                "group": None,
                "label": labels,
                "probability:ill": scores,
            }
            pd.DataFrame(table).to_parquet(predictions_file(folder, "test"))
            auc = float(roc_auc_score(labels, scores)[0])
            driver.complete(assignment.number, 0.9, {"test_auc": auc, "folder": name, "n_test": 60})
    return find_confirmation(load(config.name))


@pytest.mark.parametrize("n_seeds", [2, 3, 5])
def test_intervals_over_few_seeds_cover(n_seeds: int) -> None:
    """Seeds that differ much, test sampling that is known well: the normal quantile covers 73 to 89 %."""
    random = np.random.default_rng(n_seeds)
    inside = 0
    for _ in range(1000):
        sampling = random.normal(0, 0.002)
        aucs = 0.8 + sampling + random.normal(0, 0.02, n_seeds)
        mean, half = float(aucs.mean()), Z95 * 0.002
        low, high = interval_over_images_and_seeds(
            mean, mean - half, mean + half, float(aucs.std(ddof=1)), n_seeds
        )
        inside += low <= 0.8 <= high
    assert inside >= 930
    assert interval_over_images_and_seeds(0.8, 0.7, 0.9, None, 1) == pytest.approx([0.7, 0.9])


def test_a_summary_keeps_seeds_apart_from_test_sampling(config: StudyConfig) -> None:
    study = searched(config)
    confirmation = confirmed(config, study)
    content = summarize_confirmation(study, confirmation)
    assert content["missing"] == choose(study).missing
    for row in content["strata"]:
        aucs = [m["test_auc"] for m in row["models"]]
        assert row["test_auc"] == pytest.approx(np.mean(aucs))
        assert row["seed_sd"] == pytest.approx(np.std(aucs, ddof=1))
        low, high = row["sampling_ci"]
        seeds = 4.302653 * row["seed_sd"] / np.sqrt(3)  # Student's quantile, 2 degrees of freedom
        assert row["test_auc"] - row["ci"][0] == pytest.approx(np.hypot(row["test_auc"] - low, seeds))
        assert row["ci"][1] == pytest.approx(
            min(1, row["test_auc"] + np.hypot(high - row["test_auc"], seeds))
        )
    assert confirmation_text(content)

    one = [confirmed_folder(study) / t.user_attrs["folder"] for t in confirmation.get_trials()[:1]]
    # The same model three times is one model: its interval must not become narrower.
    assert sampling_interval(one * 3) == pytest.approx(sampling_interval(one))


def test_a_confirmation_of_another_study_of_that_name_does_not_count(
    config: StudyConfig, data: PreparedData
) -> None:
    study = searched(config)
    confirmed(config, study)
    with open_study(config, default_url(), "data", fresh=True):
        pass
    assert find_confirmation(load(config.name)) is None

    anew, live = searched(config), confirmation_name(config.name)
    queue(anew, data, _jobs(anew, 1, None, []))
    known = {s.study_name: s for s in read_studies(default_url())}
    aside = [name for name in known if name.startswith(f"{live} (until ")]
    assert len(aside) == 1
    assert live in known
    # The search that was set aside can be confirmed too, and has its own confirmation.
    old = next(s for name, s in known.items() if name.startswith(f"{config.name} (until "))
    queue(old, data, _jobs(old, 1, None, []))
    assert {old.study_name, confirmation_name(old.study_name)} <= {
        s.study_name for s in read_studies(default_url())
    }
    assert find_confirmation(anew) is not None


def test_confirmed_rows_and_comparisons_for_the_analysis(config: StudyConfig) -> None:
    study = searched(config)
    confirmation = confirmed(config, study)
    rows = analysis_records(study, confirmation)
    assert len(rows) == 3 * len(by_configuration(confirmation))
    assert {row["seed"] for row in rows} == {0, 1, 2}
    assert all(row["auc"] != row["val_auc"] and not any(k.startswith("test_") for k in row) for row in rows)
    found = compare_confirmed(study, confirmation)
    n = min(MOST_MODELS, len(by_configuration(confirmation)))
    assert len(found[0]["pairs"]) == n * (n - 1) // 2
    assert found[0]["class"] == "ill"


def queue(study: Any, data: PreparedData, jobs: list[Job], url: str = "") -> bool:
    """What `confirm` does before it trains."""
    return _queue(study, _without_stopping(study), data, jobs, url or default_url(), Watcher())


def in_queue(study: Any) -> dict[tuple[int, int], list[str]]:
    """(search trial, seed) -> the states of its trials in the confirmation."""
    found: dict[tuple[int, int], list[str]] = {}
    confirmation = find_confirmation(study)
    assert confirmation is not None
    for trial in confirmation.get_trials():
        key = trial.user_attrs["search_trial"], trial.user_attrs["seed_index"]
        found.setdefault(key, []).append(trial.state.name)
    return found


@pytest.fixture
def no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A confirmation's trials are done by the driver itself, at once; their value is their number / 1000."""

    def run_trials(config: StudyConfig, driver: Driver, watcher: Watcher, *more: Any) -> str:
        folder = more[-1].keywords["folder"]
        for assignment in [*driver.adopt(), *iter(driver.assign, None)]:
            number = assignment.number
            driver.complete(number, number / 1000, fake_confirm.keep(folder, number))
        assert driver.done()
        return ""

    monkeypatch.setattr(scheduling, "run_trials", run_trials)
    monkeypatch.setattr(efficiency, "keep", lambda *_: None)


def test_what_is_not_asked_for_any_more_leaves_the_queue(
    config: StudyConfig, data: PreparedData, no_workers: None
) -> None:
    study = searched(config, fingerprint=data.fingerprint)
    once, thrice = _jobs(study, 1, None, []), _jobs(study, 3, None, [])
    assert queue(study, data, thrice)
    with open_study(_without_stopping(study), default_url(), data.fingerprint) as driver:
        for _ in range(len(once) + 1):  # interrupted in the middle of a second seed
            assert driver.assign() is not None

    outcome = confirm_study(config.name, seeds=1)
    assert outcome.halted == ""
    assert {m["seed"] for row in outcome.summary["strata"] for m in row["models"]} == {0}
    assert outcome.summary["failures"] == []
    for (_, seed), states in in_queue(study).items():
        assert states == (["FAIL"] if seed else ["COMPLETE"])
    confirmation = find_confirmation(study)
    assert confirmation is not None
    ended = confirmation.get_trials(states=[TrialState.FAIL])
    assert {t.user_attrs["stop_reason"] for t in ended} == {"not asked for any more"}
    assert all(t.user_attrs[WITHDRAWN] for t in ended)

    assert queue(study, data, thrice)
    again = in_queue(study)
    assert again.keys() == {job.key for job in thrice}
    assert all(
        states == (["FAIL", "WAITING"] if seed else ["COMPLETE"]) for (_, seed), states in again.items()
    )


def test_models_whose_files_are_gone_are_trained_again_and_count_once(
    config: StudyConfig, data: PreparedData, no_workers: None
) -> None:
    study = searched(config, fingerprint=data.fingerprint)
    jobs = _jobs(study, 3, None, [])
    confirm_study(config.name, seeds=3)
    assert not queue(study, data, jobs)
    for number, name in enumerate(("test.parquet", WEIGHTS_FILE, CONFIG_FILE)):
        (confirmed_folder(study) / f"trial-{number:05d}" / name).unlink()
    with pytest.raises(StorageError, match=r"test\.parquet: predictions are gone; confirm the study again"):
        summarize_confirmation(study, find_confirmation(study))

    again = confirm_study(config.name, seeds=3).summary
    models = {m["trial"] for row in again["strata"] for m in row["models"]}
    assert models == set(range(3, len(jobs) + 3))
    assert sum(len(row["models"]) for row in again["strata"]) == len(jobs)
    assert not queue(study, data, jobs)


class Listening(Watcher):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.mark.parametrize(("ended", "words"), [(6, "the search has ended 6 of 8 trials; "), (8, None)])
def test_a_search_that_is_not_at_its_end_is_said_to_be(
    config: StudyConfig, data: PreparedData, no_workers: None, ended: int, words: str | None
) -> None:
    searched(config, fingerprint=data.fingerprint, ended=ended)
    watcher = Listening()
    summary = confirm_study(config.name, seeds=1, watcher=watcher).summary
    said = [note for note in watcher.notes if note.startswith("the search has ended")]
    assert said == ([summary["unfinished"]] if words else [])
    console = Console(width=200)
    with console.capture() as printed:
        console.print(confirmation_text(summary))
    if words:
        assert summary["unfinished"].startswith(words)
        assert f"T{words[1:]}" in printed.get()
    else:
        assert summary["unfinished"] is None
        assert "search has ended" not in printed.get()


def test_two_confirmations_that_begin_at_once_are_one(
    config: StudyConfig, data: PreparedData, postgresql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = config.model_copy(update={"name": "begun-twice"})
    study = searched(named, fingerprint=data.fingerprint, url=postgresql)
    jobs = _jobs(study, 2, None, [])
    real = confirm.open_study

    def late(*arguments: Any, **options: Any) -> Any:
        """The other driver does all of it just before this one opens the confirmation."""
        monkeypatch.setattr(confirm, "open_study", real)
        assert queue(load(named.name, postgresql), data, jobs, postgresql)
        return real(*arguments, **options)

    monkeypatch.setattr(confirm, "open_study", late)
    assert queue(study, data, jobs, postgresql)
    mine = [s.study_name for s in read_studies(postgresql) if s.study_name.startswith(named.name)]
    assert sorted(mine) == [named.name, confirmation_name(named.name)]
    assert in_queue(study) == {job.key: ["WAITING"] for job in jobs}


def test_many_drivers_queue_each_job_once(config: StudyConfig, data: PreparedData, postgresql: str) -> None:
    named = config.model_copy(update={"name": "queued-by-many"})
    study = searched(named, fingerprint=data.fingerprint, url=postgresql)
    jobs = _jobs(study, 4, None, [])
    together = threading.Barrier(4)

    def driver() -> None:
        own = load(named.name, postgresql)
        together.wait()
        queue(own, data, jobs, postgresql)

    threads = [threading.Thread(target=driver) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert in_queue(study) == {job.key: ["WAITING"] for job in jobs}
    assert len(study.user_attrs[OPENINGS]) == 1


def test_nothing_is_taken_out_of_the_queue_while_another_driver_is_at_work(
    config: StudyConfig, data: PreparedData, postgresql: str
) -> None:
    named = config.model_copy(update={"name": "at-work"})
    study = searched(named, fingerprint=data.fingerprint, url=postgresql)
    twice = _jobs(study, 2, None, [])
    assert queue(study, data, twice, postgresql)
    with open_study(_without_stopping(study), postgresql, data.fingerprint) as other:
        assert other.assign() is not None
        assert queue(study, data, _jobs(study, 1, None, []), postgresql)
        assert {s for states in in_queue(study).values() for s in states} == {"RUNNING", "WAITING"}
    assert queue(study, data, _jobs(study, 1, None, []), postgresql)
    assert all((states == ["FAIL"]) == (seed == 1) for (_, seed), states in in_queue(study).items())


class Interrupting(Watcher):
    """Presses Ctrl-C when the first trial has ended."""

    def trial_ends(self, number: int, state: str, auc: float | None, reason: str) -> None:
        os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Confirmed models come from `fake_confirm`, and nobody times them."""
    monkeypatch.setattr(confirm_worker, "confirmed_results", fake_confirm.results)
    monkeypatch.setattr(efficiency, "keep", lambda *_: None)


@pytest.mark.slow
def test_an_interrupted_confirmation_goes_on(
    config: StudyConfig, data: PreparedData, ray_cluster: None, no_training: None
) -> None:
    study = searched(config, fingerprint=data.fingerprint)
    jobs = _jobs(study, 2, None, [])
    interrupted = confirm_study(config.name, seeds=2, watcher=Interrupting())
    assert interrupted.halted == "interrupted"
    before = fake_confirm.begun(confirmed_folder(study))
    assert 0 < sum(len(row["models"]) for row in interrupted.summary["strata"]) < len(jobs)
    done = {m["trial"] for row in interrupted.summary["strata"] for m in row["models"]}

    gc.collect()  # workers of the fit that ended in the midst of it
    again = confirm_study(config.name, seeds=2)
    assert again.halted == ""
    assert in_queue(study) == {job.key: ["COMPLETE"] for job in jobs}
    assert sum(len(row["models"]) for row in again.summary["strata"]) == len(jobs)
    after = fake_confirm.begun(confirmed_folder(study))[len(before) :]
    assert done.isdisjoint(after)
    assert len(after) == len(set(after)) == len(jobs) - len(done)
    assert [sorted(map(tuple, o["models"])) for o in again.summary["openings"]] == [
        sorted(job.key for job in jobs)
    ]
